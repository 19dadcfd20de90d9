-- Cancel tasks that live. What is leased of them is finished, and leads to nothing more; what
-- is pending goes when it is reached, see lib/handing.lua and drop_cancelled.lua.
--
-- KEYS  tasks (hash)  tasks_ended (zset)
-- ARGV  ids*: of tasks (<= 100)
-- Reply for each the token and the record of its newest task as it stood before ('': none)
-- Cost  O(ids)
-- @use clock
-- @use tasks
local book = task_book()
local now, reply = now_ms(), {}
redis.call('HDEL', tasks, '') -- runs above maxmemory too
for i = ids_at + 1, #ARGV do
  local task, token = book.newest(ARGV[i])
  reply[#reply + 1] = task and token or ''
  reply[#reply + 1] = task and book.text(task) or ''
  if book.is_living(task) then
    book.count(token, 0, 0, 0)
    book.move(token, task, 'c', now)
  end
end
store_tasks(now)
return reply
