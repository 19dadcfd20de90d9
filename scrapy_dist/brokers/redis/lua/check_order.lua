-- Find out whether new requests would get order ids that are in use; raise the counter.
--
-- KEYS  state (hash)  requests (zset)  suspects (zset)  leases (zset)
-- ARGV  mend: '1' or '0'  least: what the counter must be at least
--       proofs*: of each request that asks for more than the counter: the number of its
--       place in the order of the three last KEYS, member
-- Reply 1 if the counter is behind, the counter as it was ('' if there was none)
-- Cost  O(members)
local places = {requests, suspects, leases}
local order = redis.call('HGET', state, 'order')
local behind = order and not order:find('^%-?%d+$')
if not behind and tonumber(order or 0) < tonumber(least) then
  for i = proofs_at + 1, #ARGV, 2 do
    behind = behind or redis.call('ZSCORE', places[tonumber(ARGV[i])], ARGV[i + 1])
  end
end
if behind and mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
  redis.call('HSET', state, 'order', least)
end
return {behind and 1 or 0, order or ''}
