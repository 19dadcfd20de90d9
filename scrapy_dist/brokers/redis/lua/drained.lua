-- Tell whether anything is left to do for anybody. Computed, never stored.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 state (hash)
--       5 failed (stream)  6 leased (hash)  7 workers (zset)  8 control (hash)
--       9… keys of seeds
-- ARGV  1 most dead letters
-- Reply pending, suspects, leases and workers that are busy without one, seeds, ms since
--       the last activity of any worker, suspects that have failed and for which S:failed
--       has no room, requests in leased without a lease, leases of workers that are not listed
-- Cost  O(keys + log(suspects) + workers * log(leases))
-- @use letters
-- @use ending
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[7])
local sizes = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
local seeds = 0
for i = 9, #KEYS do
  local kind = redis.call('TYPE', KEYS[i])
  local size = sizes[kind.ok or kind]
  if size then
    seeds = seeds + redis.call(size, KEYS[i])
  end
end
local waiting = has_room(KEYS[5], ARGV[1]) and 0 or redis.call('ZCOUNT', KEYS[2], '+inf', '+inf')
local active = tonumber(redis.call('HGET', KEYS[4], 'active') or now)
local leases = redis.call('ZCARD', KEYS[3])
local unknown = leases
for _, worker in ipairs(leases > 0 and redis.call('ZRANGE', KEYS[7], 0, -1) or {}) do
  unknown = unknown - (tonumber(worker) and redis.call('ZCOUNT', KEYS[3], worker, worker) or 0)
end
return {redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]),
  leases + busy_workers(KEYS[8], KEYS[7]), seeds,
  math.max(0, now - active), waiting, math.max(0, redis.call('HLEN', KEYS[6]) - leases),
  unknown}
