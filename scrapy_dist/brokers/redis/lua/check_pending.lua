-- Find requests that are in two places; remove the copy that nobody has in hand.
--
-- A request that is leased and also pending or a suspect stays leased; one that is
-- pending and a suspect stays a suspect.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 state (hash)
-- ARGV  1 '1': mend  2 index in KEYS of what holds the members  3… members (<= 100), all
--       of the right form
-- Reply for each finding: position of the member, 1 (a copy) or 2 (another request is
--       leased under the same order id: see check_twice.lua)
-- Cost  O(members * log(pending))
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
local place = tonumber(ARGV[2])
local mend = ARGV[1] == '1'
if mend then
  redis.call('HDEL', KEYS[5], '') -- runs above maxmemory too
end
local reply = {}
for i = 3, #ARGV do
  local member = ARGV[i]
  local id, at = member:sub(1, 16), 17
  if place == 2 then
    at = member:match('^%d+ %S+ ()', 17)
  end
  local payload = member:sub(at)
  if redis.call('ZSCORE', KEYS[place], member) then
    local entry = redis.call('ZSCORE', KEYS[3], id) and redis.call('HGET', KEYS[4], id)
    local from = entry and (entry:match('^ %S+ %d+ %S+ ()')
      or entry:sub(1, 16) == id and 1) -- without a head, see lease.lua
    local same = from and entry:sub(from + 16) == payload -- behind the order id
    local both = place == 2 and redis.call('ZSCORE', KEYS[1], id .. payload)
    if from or both then
      reply[#reply + 1] = i - 3
      reply[#reply + 1] = (same or both) and 1 or 2
    end
    if mend and both then
      redis.call('ZREM', KEYS[1], id .. payload)
    end
    if mend and same then
      redis.call('ZREM', KEYS[place], member)
    end
  end
end
return reply
