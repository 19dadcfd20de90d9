-- Cancel tasks that live. What is leased of them is finished, and leads to nothing more; what
-- is pending goes when it is reached, see lib/handing.lua and drop_cancelled.lua.
--
-- KEYS  tasks (hash)  tasks_ended (zset)
-- ARGV  ids*: of tasks (<= 100), whose newest ones are meant; or tokens, each behind a line
--       break
-- Reply for each the token and the record of the task as it stood before ('': none)
-- Cost  O(ids)
-- @use clock
-- @use tasks
local book = task_book()
local now, reply = now_ms(), {}
redis.call('HDEL', tasks, '') -- runs above maxmemory too
for i = ids_at + 1, #ARGV do
  local token, task = ARGV[i]:match('^\n(.*)')
  if token then
    task = book.task(token)
  else
    task, token = book.newest(ARGV[i])
  end
  reply[#reply + 1] = task and token or ''
  reply[#reply + 1] = task and book.text(task) or ''
  if book.is_living(task) then
    book.count(token, 0, 0, 0)
    book.move(token, task, 'c', now)
  end
end
store_tasks(now)
return reply
