-- Find requests whose order id another request has as well; give them new ones.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 state (hash)
-- ARGV  1 '1': mend, then for each: index in KEYS of what holds the one that keeps its
--       order id, its member (3: its order id), the same of the one that gets a new one
-- Reply positions of those for which this is still so
-- Cost  O(requests * log(pending))
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
local mend = ARGV[1] == '1'
if mend then
  redis.call('HDEL', KEYS[4], '') -- runs above maxmemory too
end
local reply = {}
for i = 2, #ARGV, 4 do
  local kept, key, member = ARGV[i + 1], KEYS[tonumber(ARGV[i + 2])], ARGV[i + 3]
  local id = member:sub(1, 16)
  local score = redis.call('ZSCORE', key, member)
  -- The other one may have been leased in the meantime.
  local taken = redis.call('ZSCORE', KEYS[tonumber(ARGV[i])], kept)
    or redis.call('ZSCORE', KEYS[3], id)
  if score and taken then
    reply[#reply + 1] = (i - 2) / 4
    if mend then
      local order, old = redis.call('HINCRBY', KEYS[4], 'order', 1), tonumber(id, 16)
      if old >= 4503599627370496 and old <= 9007199254740991 then -- newest first
        order = 9007199254740991 - order
      end
      redis.call('ZADD', key, score, string.format('%016x', order) .. member:sub(17))
      redis.call('ZREM', key, member)
    end
  end
end
return reply
