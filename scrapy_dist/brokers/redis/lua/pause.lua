-- Let no worker lease anything, or let them again.
--
-- KEYS  1 control (hash)  2 workers (zset)  3 state (hash)
-- ARGV  1 '1': pause, else resume  2 ms of silence after which a worker is dead, if no
--       worker has told
-- Reply 1 if it was paused before, workers alive
-- Cost  O(log(workers))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ttl = redis.call('HGET', KEYS[3], 'ttl') or ARGV[2]
local alive = redis.call('ZCOUNT', KEYS[2], '(' .. now - ttl, '+inf')
local before = redis.call('HEXISTS', KEYS[1], 'paused')
redis.call('HDEL', KEYS[1], '') -- runs above maxmemory too
if ARGV[1] ~= '1' then
  redis.call('HDEL', KEYS[1], 'paused')
elseif before == 0 then
  redis.call('HSET', KEYS[1], 'paused', string.format('%.0f', now))
end
return {before, alive}
