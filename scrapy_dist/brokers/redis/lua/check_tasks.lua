-- Find tasks that have more or less to do than they count; count again.
--
-- KEYS  tasks (hash)  tasks_ended (zset)  state (hash)
-- ARGV  mend: '1' or '0'
--       order: what S:state had of it before they were counted  active: the same
--       counted*: of each (<= 100): token, entries that carry it, its record when they were
--       counted
-- Reply positions of those that are wrong; none if anything has moved since
-- Cost  O(tasks * log(tasks))
-- @use clock
-- @use tasks
local reply, book = {}, task_book()
local now = redis.call('HMGET', state, 'order', 'active')
if (now[1] or '') ~= order or (now[2] or '') ~= active then
  return reply
end
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
for i = 1, counted_count, 3 do
  local token, count, record = unpack(ARGV, counted_at + i, counted_at + i + 2)
  local task = book.task(token)
  if task and book.text(task) == record and task.open ~= tonumber(count) then
    reply[#reply + 1] = (i - 1) / 3
    if mend == '1' then
      book.count(token, count - task.open, 0, 0)
    end
  end
end
store_tasks(now_ms())
return reply
