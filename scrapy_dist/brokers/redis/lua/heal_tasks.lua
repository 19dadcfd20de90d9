-- End tasks that live while nothing is left in the frontier: their counts are of a torn file,
-- or somebody has deleted what was left of them.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  state (hash)
--       workers (zset)  control (hash)  tasks (hash)  tasks_ended (zset)
--       seed_keys*: (list, set or zset)
-- ARGV  most: tasks to end (<= 100)
-- Reply tasks that were ended
-- Cost  O(most * log(tasks)), O(1) if all have ended
-- @use clock
-- @use kinds
-- @use workers
-- @use tasks
local book = task_book()
local call = redis.call
if call('ZCOUNT', tasks_ended, '+inf', '+inf') == 0 then
  return 0
end
local left = call('ZCARD', requests) + call('ZCARD', suspects) + call('ZCARD', leases)
  + call('HLEN', leased) + busy_workers()
for i = seed_keys_at + 1, #KEYS do
  left = left + count_seeds(KEYS[i])
end
if left > 0 then
  return 0
end
local now, done = now_ms(), 0
call('HDEL', state, '') -- runs above maxmemory too
local tokens = call('ZRANGEBYSCORE', tasks_ended, '+inf', '+inf', 'LIMIT', 0, most)
book.read(tokens)
local lost = 'nothing of it is left in the frontier'
local unread = 'its seed is in no key that the workers read: '
  .. table.concat(KEYS, ', ', seed_keys_at + 1)
for _, token in ipairs(tokens) do
  local task = book.records[token]
  if not book.is_living(task) then
    call('ZADD', tasks_ended, now, token) -- it goes with the others that have ended
  elseif task.state == 'r' or seed_keys_count > 0 then
    done = done + 1
    book.count(token, -task.open, 0, 0, 0, task.state == 'r' and lost or unread)
    book.move(token, task, 'f', now)
  end
end
store_tasks(now)
return done
