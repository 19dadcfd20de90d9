-- Cancel tasks of which everything that is left was deleted: see tools/clear.py.
--
-- KEYS  tasks (hash)  tasks_ended (zset)
-- ARGV  states: letters of the states of those that are meant  until_ms: when it was deleted
--       at: living tasks to leave out  most: to look at (<= 100)
-- Reply living tasks to leave out next (-1: there are no more), tasks that were cancelled
-- Cost  O(tasks looked at * log(tasks))
-- @use clock
-- @use tasks
local book = task_book()
local now, done = now_ms(), 0
redis.call('HDEL', tasks, '') -- runs above maxmemory too
local tokens = redis.call('ZRANGEBYSCORE', tasks_ended, '+inf', '+inf', 'LIMIT', at, most)
book.read(tokens)
for _, token in ipairs(tokens) do
  local task = book.records[token]
  local since = task and (task.state == 'q' and task.submitted or task.started)
  if book.is_living(task) and states:find(task.state, 1, true)
    and tonumber(since) <= tonumber(until_ms) then
    done = done + 1
    book.count(token, -task.open, 0, 0)
    book.move(token, task, 'c', now)
  end
end
store_tasks(now)
return {#tokens < tonumber(most) and -1 or at + #tokens - done, done}
