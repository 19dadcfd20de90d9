-- A worker says that it lives and learns what Redis knows, and people want, of it.
--
-- KEYS  workers (zset)  state (hash)  leases (zset)  control (hash)
-- ARGV  worker: its number  ttl_ms: of silence after which a worker is dead
--       info: of this worker for people, '' if it has not changed
--       busy: '1': it has a request in hand that no lease stands for; '0': not any more; ''
-- Reply known (0: declared dead, or Redis was rolled back), number of its last commit,
--       leases held, workers alive, workers that a reap may end, 1 if paused, 1 if this
--       worker is asked to stop, how often workers have come (see meet.lua)
-- Cost  O(log(workers) + log(leases))
-- @use clock
-- @types are seen by what is read
local call = redis.call
local now, ttl = now_ms(), tonumber(ttl_ms)
-- One with 0 has lost some of its seats already, see reap.lua.
if tonumber(call('ZSCORE', workers, worker) or 0) == 0 then
  return {0, 0, 0, 0, 0, 0, 0, 0}
end
local facts = call('HMGET', state, 'commit:' .. worker, 'grace', 'active', 'met')
local held = call('ZCOUNT', leases, worker, worker)
local asked = call('HMGET', control, 'paused', 'stop:' .. worker, 'busy:' .. worker)
local newest = call('ZREVRANGE', workers, '0', '0', 'WITHSCORES')
local grace = tonumber(facts[2] or 0)
-- Runs above maxmemory too: Redis checks only the first write of a script.
call('HDEL', state, '')
if info ~= '' then
  call('HSET', state, 'beat:' .. worker, info)
end
-- Who waits for the end watches this key: only changes may be written.
if busy == '1' and not asked[3] then
  call('HSET', control, 'busy:' .. worker, '1')
elseif busy == '0' and asked[3] then
  call('HDEL', control, 'busy:' .. worker)
end
if now - newest[2] > ttl then
  -- Nobody has beaten lately, so Redis was away: give the living time to beat again.
  grace = now + ttl
  call('HSET', state, 'grace', grace)
elseif newest[2] - now > ttl then
  -- Redis' clock went back: heartbeats from the future would keep the dead alive.
  for _, ahead in ipairs(call('ZRANGEBYSCORE', workers, '(' .. now, '+inf', 'LIMIT', 0, 100)) do
    call('ZADD', workers, now, ahead)
  end
end
if tonumber(facts[3] or 0) - now > ttl then
  call('HSET', state, 'active', now)
end
if grace - now > ttl then
  call('HDEL', state, 'grace')
  grace = 0
end
call('ZADD', workers, string.format('%d', now), worker)
local alive = call('ZCOUNT', workers, string.format('(%d', now - ttl), '+inf')
local silent
if now >= grace then
  silent = call('ZCARD', workers) - alive
else
  silent = call('ZCOUNT', workers, '-inf', '1') -- known to be dead, see gone.lua
end
return {1, tonumber(facts[1] or -1), held, alive, silent,
  asked[1] and 1 or 0, asked[2] and 1 or 0, tonumber(facts[4] or 0)}
