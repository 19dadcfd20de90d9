-- Delete pending requests of tasks that were cancelled: a page of all pending ones.
--
-- KEYS  requests (zset)  tasks (hash)  tasks_ended (zset)  state (hash)
-- ARGV  at: where the page begins in the order of all  most: requests in it
--       reply_bytes: of requests after which it ends
-- Reply where the next page begins (-1: there is none), requests deleted
-- Cost  O(log(pending) + requests of a page * log(pending))
-- @use clock
-- @use tasks
local read, bytes, gone, is_end = 0, 0, {}, false
local book = task_book()
while read < tonumber(most) and bytes < tonumber(reply_bytes) and not is_end do
  -- Some at a time: a few may be as large as a whole call may be.
  local first = at + read
  local some = redis.call('ZRANGE', requests, string.format('%d', first),
    string.format('%d', first + 7))
  for _, member in ipairs(some) do
    bytes = bytes + #member
    local token = member:byte(25) == 4 and task_of(member:sub(25, 41))
    if token and book.is_cancelled(token) then
      gone[#gone + 1] = member
      book.count(token, -1, 0, 0)
    end
  end
  read, is_end = read + #some, #some < 8
end
if #gone > 0 then
  redis.call('HDEL', state, '') -- runs above maxmemory too
  redis.call('HSET', state, 'active', now_ms())
  redis.call('ZREM', requests, unpack(gone))
  store_tasks(now_ms())
end
return {is_end and -1 or at + read - #gone, #gone}
