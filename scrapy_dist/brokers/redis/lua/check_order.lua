-- Find out whether new requests would get order ids that are in use; raise the counter.
--
-- KEYS  1 state (hash)  2 requests (zset)  3 suspects (zset)  4 leases (zset)
-- ARGV  1 '1': mend  2 what the counter must be at least, then, for each request that
--       asks for more than the counter: index in KEYS of what holds it, member
-- Reply 1 if the counter is behind, the counter as it was ('' if there was none)
-- Cost  O(members)
local order = redis.call('HGET', KEYS[1], 'order')
local behind = order and not order:find('^%-?%d+$')
if not behind and tonumber(order or 0) < tonumber(ARGV[2]) then
  for i = 3, #ARGV, 2 do
    behind = behind or redis.call('ZSCORE', KEYS[tonumber(ARGV[i])], ARGV[i + 1])
  end
end
if behind and ARGV[1] == '1' then
  redis.call('HDEL', KEYS[1], '') -- runs above maxmemory too
  redis.call('HSET', KEYS[1], 'order', ARGV[2])
end
return {behind and 1 or 0, order or ''}
