-- A worker leaves. The last one out of a finished crawl deletes the frontier, or, if it
-- is to be kept, marks it finished.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 requests (zset)  4 suspects (zset)
--       5 leases (zset)  6 leased (hash)  7 dupefilter (set or hash)  8 stats (hash)
--       9 started (set)  10 control (hash)
-- ARGV  1 worker number  2 '1': the crawl has finished  3 ms of silence after which
--       another worker is not counted as present  4 '1': keep a finished crawl
-- Reply 1 if the frontier was deleted
-- Cost  O(log workers + log leases)
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local left = redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4])
  + math.max(redis.call('ZCARD', KEYS[5]), redis.call('HLEN', KEYS[6]))
redis.call('ZCARD', KEYS[1])
local compact = redis.call('TYPE', KEYS[7])
compact = (compact.ok or compact) == 'hash'
redis.call(compact and 'HLEN' or 'SCARD', KEYS[7])
redis.call('HLEN', KEYS[8])
redis.call('SCARD', KEYS[9])
redis.call('HLEN', KEYS[10])
-- Buckets of fingerprints may be millions of keys: their name is noted, and they are
-- deleted some at a time (see Frontier.sweep).
local function retire_buckets()
  if not compact then
    redis.call('UNLINK', KEYS[7])
    return
  end
  local shape = redis.call('HMGET', KEYS[7], 'epoch', 'buckets')
  if shape[1] then
    redis.call('HSET', KEYS[7], 'old:' .. shape[1], shape[2])
    redis.call('HDEL', KEYS[7], 'epoch', 'buckets', 'count')
  end
end
redis.call('HDEL', KEYS[2], 'commit:' .. ARGV[1])
if redis.call('ZCOUNT', KEYS[5], ARGV[1], ARGV[1]) > 0 then
  -- It does not know of these leases. Whoever reaps finds a worker long dead.
  redis.call('ZADD', KEYS[1], 1, ARGV[1])
  return 0
end
redis.call('HDEL', KEYS[2], 'worker:' .. ARGV[1], 'since:' .. ARGV[1], 'beat:' .. ARGV[1],
  'handed:' .. ARGV[1], 'strange:' .. ARGV[1], 'process:' .. ARGV[1],
  'format:' .. ARGV[1])
redis.call('HDEL', KEYS[10], 'stop:' .. ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
if ARGV[2] ~= '1' or left > 0 then
  return 0
end
if ARGV[4] == '1' or redis.call('ZCOUNT', KEYS[1], '(' .. now - ARGV[3], '+inf') > 0 then
  redis.call('HSET', KEYS[2], 'finished', '1')
  return 0
end
retire_buckets()
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8],
  KEYS[9], KEYS[10])
return 1
