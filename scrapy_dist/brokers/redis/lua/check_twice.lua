-- Find requests whose order id another request has as well; give them new ones.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  state (hash)
-- ARGV  mend: '1' or '0'  twins*: of each: the number of the place of the one that keeps its
--       order id, in the order of KEYS, its member (3: its order id), the same of the one
--       that gets a new one
-- Reply positions of those for which this is still so
-- Cost  O(requests * log(pending))
-- @use clock
-- @use order
local places, reply, now = {requests, suspects, leases}, {}, now_ms()
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
for i = 1, twins_count, 4 do
  local kept, key = ARGV[twins_at + i + 1], places[tonumber(ARGV[twins_at + i + 2])]
  local member = ARGV[twins_at + i + 3]
  local id = member:sub(9, 24)
  local score = redis.call('ZSCORE', key, member)
  -- The other one may have been leased in the meantime.
  local taken = redis.call('ZSCORE', places[tonumber(ARGV[twins_at + i])], kept)
    or redis.call('ZSCORE', leases, id)
  if score and taken then
    reply[#reply + 1] = (i - 1) / 4
    if mend == '1' then
      local order, old = order_at(redis.call('HGET', state, 'order'), now) + 1, tonumber(id, 16)
      local is_newest_first = old >= 4503599627370496 and old <= 9007199254740991
      redis.call('HSET', state, 'order', order)
      redis.call('ZADD', key, score, member:sub(1, 8)
        .. order_id(order, is_newest_first and '1' or '0') .. member:sub(25))
      redis.call('ZREM', key, member)
    end
  end
end
return reply
