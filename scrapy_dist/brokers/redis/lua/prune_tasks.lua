-- Delete some of the tasks that have ended long ago, with their results.
--
-- KEYS  tasks (hash)  results (hash)  tasks_ended (zset)  state (hash)
-- ARGV  keep_ms: for which they are kept  most: tasks (<= 100)
-- Reply tasks deleted, 1 if there may be more
-- Cost  O(tasks * log(tasks) + results, 2000 at the most)
-- @use clock
-- @use tasks
local book = task_book()
local now, room, done, has_more = now_ms(), 2000, 0, 0
local tokens = redis.call('ZRANGEBYSCORE', tasks_ended, '-inf',
  string.format('%.0f', now - keep_ms), 'LIMIT', 0, most)
if #tokens == 0 then
  return {0, 0}
end
redis.call('HDEL', state, '') -- runs above maxmemory too
book.read(tokens)
for _, token in ipairs(tokens) do
  local task, fields = book.records[token], {}
  local last = task and task.items or 0
  for n = last, math.max(1, last - room + 1), -1 do
    fields[#fields + 1] = token .. string.format(' %.0f', n)
  end
  room = room - #fields
  if #fields > 0 then
    redis.call('HDEL', results, unpack(fields))
  end
  if #fields < last then
    book.count(token, 0, 0, 0, -#fields) -- the rest of them next time
    has_more = 1
    break
  end
  if task then
    if redis.call('HGET', tasks, 'i:' .. task.id) == token then
      redis.call('HDEL', tasks, 'i:' .. task.id)
    end
    book.forget(task)
  end
  redis.call('HDEL', tasks, 't:' .. token)
  redis.call('ZREM', tasks_ended, token)
  done = done + 1
end
store_tasks(now)
return {done, done == tonumber(most) and 1 or has_more}
