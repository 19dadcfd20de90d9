-- A worker says that it lives and learns what Redis knows, and people want, of it.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 leases (zset)  4 control (hash)
-- ARGV  1 worker number  2 ms of silence after which a worker is dead
--       3 facts of this worker for people, '' if they have not changed
-- Reply known (0: declared dead, or Redis was rolled back), number of its last commit,
--       leases held, workers alive, workers that a reap may end, 1 if paused, 1 if this
--       worker is asked to stop
-- Cost  O(log(workers) + log(leases))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ttl = tonumber(ARGV[2])
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return {0, 0, 0, 0, 0, 0, 0}
end
local facts = redis.call('HMGET', KEYS[2], 'commit:' .. ARGV[1], 'grace', 'active')
local held = redis.call('ZCOUNT', KEYS[3], ARGV[1], ARGV[1])
local asked = redis.call('HMGET', KEYS[4], 'paused', 'stop:' .. ARGV[1])
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local grace = tonumber(facts[2] or 0)
-- Runs above maxmemory too: Redis checks only the first write of a script.
redis.call('HDEL', KEYS[2], '')
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], 'beat:' .. ARGV[1], ARGV[3])
end
if now - newest[2] > ttl then
  -- Nobody has beaten lately, so Redis was away: give the living time to beat again.
  grace = now + ttl
  redis.call('HSET', KEYS[2], 'grace', string.format('%.0f', grace))
elseif newest[2] - now > ttl then
  -- Redis' clock went back: beats from the future would keep the dead alive.
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, 100)
  for _, worker in ipairs(ahead) do
    redis.call('ZADD', KEYS[1], now, worker)
  end
end
if tonumber(facts[3] or 0) - now > ttl then
  redis.call('HSET', KEYS[2], 'active', string.format('%.0f', now))
end
if grace - now > ttl then
  redis.call('HDEL', KEYS[2], 'grace')
  grace = 0
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
local alive = redis.call('ZCOUNT', KEYS[1], '(' .. now - ttl, '+inf')
local silent = 0
if now >= grace then
  silent = redis.call('ZCARD', KEYS[1]) - alive
end
return {1, tonumber(facts[1] or -1), held, alive, silent,
  asked[1] and 1 or 0, asked[2] and 1 or 0}
