-- Delete pending requests of tasks that were cancelled.
--
-- KEYS  requests (zset)  tasks (hash)  tasks_ended (zset)  state (hash)
-- ARGV  members*: of requests (<= 100)
-- Reply requests deleted
-- Cost  O(members * log(pending))
-- @use clock
-- @use tasks
local book = task_book()
local tokens, gone = {}, {}
for i = 1, members_count do
  tokens[i] = task_of(ARGV[members_at + i]:sub(25, 41)) or ''
end
book.read(tokens)
for i, token in ipairs(tokens) do
  local member = ARGV[members_at + i]
  if book.is_cancelled(token) and redis.call('ZSCORE', requests, member) then
    gone[#gone + 1] = member
    book.count(token, -1, 0, 0)
  end
end
if #gone > 0 then
  redis.call('HDEL', state, '') -- runs above maxmemory too
  redis.call('HSET', state, 'active', now_ms())
  redis.call('ZREM', requests, unpack(gone))
  store_tasks(now_ms())
end
return #gone
