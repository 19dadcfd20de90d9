-- A worker says that it lives and learns what Redis knows, and people want, of it.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 leases (zset)  4 control (hash)
-- ARGV  1 worker number  2 ms of silence after which a worker is dead
--       3 facts of this worker for people, '' if they have not changed
--       4 '1': it has a request in hand that no lease stands for; '0': not any more; ''
-- Reply known (0: declared dead, or Redis was rolled back), number of its last commit,
--       leases held, workers alive, workers that a reap may end, 1 if paused, 1 if this
--       worker is asked to stop, how often workers have come (see meet.lua)
-- Cost  O(log(workers) + log(leases))
local call, format = redis.call, string.format
local now = call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ttl = tonumber(ARGV[2])
if not call('ZSCORE', KEYS[1], ARGV[1]) then
  return {0, 0, 0, 0, 0, 0, 0, 0}
end
local facts = call('HMGET', KEYS[2], 'commit:' .. ARGV[1], 'grace', 'active', 'met')
local held = call('ZCOUNT', KEYS[3], ARGV[1], ARGV[1])
local asked = call('HMGET', KEYS[4], 'paused', 'stop:' .. ARGV[1], 'busy:' .. ARGV[1])
local newest = call('ZREVRANGE', KEYS[1], '0', '0', 'WITHSCORES')
local grace = tonumber(facts[2] or 0)
-- Runs above maxmemory too: Redis checks only the first write of a script.
call('HDEL', KEYS[2], '')
if ARGV[3] ~= '' then
  call('HSET', KEYS[2], 'beat:' .. ARGV[1], ARGV[3])
end
-- Who waits for the end watches this key: only changes may be written.
if ARGV[4] == '1' and not asked[3] then
  call('HSET', KEYS[4], 'busy:' .. ARGV[1], '1')
elseif ARGV[4] == '0' and asked[3] then
  call('HDEL', KEYS[4], 'busy:' .. ARGV[1])
end
if now - newest[2] > ttl then
  -- Nobody has beaten lately, so Redis was away: give the living time to beat again.
  grace = now + ttl
  call('HSET', KEYS[2], 'grace', format('%d', grace))
elseif newest[2] - now > ttl then
  -- Redis' clock went back: beats from the future would keep the dead alive.
  local ahead = call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, 100)
  for _, worker in ipairs(ahead) do
    call('ZADD', KEYS[1], now, worker)
  end
end
if tonumber(facts[3] or 0) - now > ttl then
  call('HSET', KEYS[2], 'active', format('%d', now))
end
if grace - now > ttl then
  call('HDEL', KEYS[2], 'grace')
  grace = 0
end
call('ZADD', KEYS[1], format('%d', now), ARGV[1])
local alive = call('ZCOUNT', KEYS[1], format('(%d', now - ttl), '+inf')
local silent
if now >= grace then
  silent = call('ZCARD', KEYS[1]) - alive
else
  silent = call('ZCOUNT', KEYS[1], '-inf', '1') -- known to be dead, see gone.lua
end
return {1, tonumber(facts[1] or -1), held, alive, silent,
  asked[1] and 1 or 0, asked[2] and 1 or 0, tonumber(facts[4] or 0)}
