-- Find payloads without a lease; put them back where they came from.
--
-- Where a lease or a release was cut in half, the request is still or already there.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 state (hash)
-- ARGV  1 '1': mend  2… order ids (<= 100) whose payloads can be read
-- Reply positions of the order ids without a lease
-- Cost  O(ids * log(pending))
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
local mend = ARGV[1] == '1'
if mend then
  redis.call('HDEL', KEYS[5], '') -- runs above maxmemory too
end
local reply = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local entry = redis.call('HGET', KEYS[4], id)
  if entry and not redis.call('ZSCORE', KEYS[3], id) then
    reply[#reply + 1] = i - 2
    if mend then
      if entry:byte() ~= 32 then -- without a head, see lease.lua
        entry = ' 0 0 - ' .. entry
      end
      local score, deaths, claims, at = entry:match('^ (%S+) (%d+) (%S+) ()')
      local member = entry:sub(at)
      if deaths == '0' and claims == '-' then
        redis.call('ZADD', KEYS[1], score, member)
      else
        local payload = member:sub(17)
        redis.call('ZADD', KEYS[2], score, id .. deaths .. ' ' .. claims .. ' ' .. payload)
        redis.call('ZREM', KEYS[1], member)
      end
      redis.call('HSET', KEYS[5], 'active', now)
      redis.call('HDEL', KEYS[4], id)
    end
  end
end
return reply
