-- Tell whether anything is left to do for anybody. Computed, never stored.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  state (hash)  failed (stream)
--       leased (hash)  workers (zset)  control (hash)  seed_keys*: (list, set or zset)
-- ARGV  failed_limit: most dead letters
-- Reply pending, suspects, leases and workers that are busy without one, seeds, ms since
--       the last activity of any worker, suspects that have failed and for which S:failed
--       has no room, requests in leased without a lease, leases of workers that are not listed
-- Cost  O(keys + log(suspects) + workers * log(leases))
-- @use kinds
-- @use clock
-- @use room
-- @use workers
-- @types do no harm: it writes nothing
local now, seeds = now_ms(), 0
for i = seed_keys_at + 1, #KEYS do
  seeds = seeds + count_seeds(KEYS[i])
end
local waiting = has_room() and 0 or redis.call('ZCOUNT', suspects, '+inf', '+inf')
local active = tonumber(redis.call('HGET', state, 'active') or now)
local held = redis.call('ZCARD', leases)
local unknown = held
for _, worker in ipairs(held > 0 and redis.call('ZRANGE', workers, 0, -1) or {}) do
  unknown = unknown - (tonumber(worker) and redis.call('ZCOUNT', leases, worker, worker) or 0)
end
return {redis.call('ZCARD', requests), redis.call('ZCARD', suspects), held + busy_workers(),
  seeds, math.max(0, now - active), waiting, math.max(0, redis.call('HLEN', leased) - held),
  unknown}
