-- Set leased requests aside as dead letters.
--
-- KEYS  1 leases (zset)  2 leased (hash)  3 failed (stream)  4 state (hash)
-- ARGV  1 worker number  2 worker for people  3 most dead letters kept
--       4 most bytes kept of a payload, then for each request: order id, reason
-- Reply requests set aside
-- Cost  O(requests * log(leases))
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
redis.call('HDEL', KEYS[4], '') -- runs above maxmemory too
local done = 0
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local owner = redis.call('ZSCORE', KEYS[1], id)
  if owner and tonumber(owner) == tonumber(ARGV[1]) then
    local entry = redis.call('HGET', KEYS[2], id)
    if entry then
      local deaths, at = entry:match('^%S+ (%d+) %S+ ()')
      local payload, kind = entry:sub(at), 'request'
      if payload:byte(1) == 0 then
        payload, kind = payload:sub(2), 'seed'
      end
      redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*',
        'payload', payload:sub(1, tonumber(ARGV[4])), 'reason', ARGV[i + 1],
        'worker', ARGV[2], 'deliveries', deaths + 1, 'time', now, 'kind', kind)
    end
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZREM', KEYS[1], id)
    done = done + 1
  end
end
redis.call('HSET', KEYS[4], 'active', now)
return done
