-- Let no worker lease anything, or let them again.
--
-- KEYS  control (hash)  workers (zset)  state (hash)
-- ARGV  pause: '1', else resume
--       ttl_ms: of silence after which a worker is dead, if no worker has told
-- Reply 1 if it was paused before, workers alive
-- Cost  O(log(workers))
-- @use clock
-- @use alive
local now = now_ms()
local alive, before = alive_workers(now), redis.call('HEXISTS', control, 'paused')
redis.call('HDEL', control, '') -- runs above maxmemory too
if pause ~= '1' then
  redis.call('HDEL', control, 'paused')
elseif before == 0 then
  redis.call('HSET', control, 'paused', now)
end
return {before, alive}
