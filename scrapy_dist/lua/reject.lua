-- Set leased requests aside as dead letters.
--
-- KEYS  1 leases (zset)  2 leased (hash)  3 failed (stream)  4 state (hash)
-- ARGV  1 worker number  2 worker for people  3 most dead letters kept
--       4 most bytes kept of a payload, then for each request: order id, kind (seed or
--       request), reason
-- Reply requests set aside
-- Cost  O(requests * log(leases))
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
redis.call('HDEL', KEYS[4], '') -- runs above maxmemory too
local done = 0
for i = 5, #ARGV, 3 do
  local id = ARGV[i]
  local owner = redis.call('ZSCORE', KEYS[1], id)
  if owner and tonumber(owner) == tonumber(ARGV[1]) then
    local entry = redis.call('HGET', KEYS[2], id)
    if entry then
      local deaths, at = entry:match('^ %S+ (%d+) %S+ ()')
      deaths = deaths or 0 -- without a head, see lease.lua
      at = (at or 1) + 16 -- behind the order id
      if ARGV[i + 1] == 'seed' then
        at = at + 1 -- the mark of a seed
      end
      redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[3], '*',
        'payload', entry:sub(at, at + ARGV[4] - 1), 'reason', ARGV[i + 2],
        'worker', ARGV[2], 'deliveries', deaths + 1, 'time', now, 'kind', ARGV[i + 1])
    end
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZREM', KEYS[1], id)
    done = done + 1
  end
end
redis.call('HSET', KEYS[4], 'active', now)
return done
