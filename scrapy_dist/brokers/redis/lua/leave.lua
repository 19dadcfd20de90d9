-- A worker leaves. The last one out of a finished crawl writes its record, and deletes the
-- frontier, or, if it is to be kept, marks it finished.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 requests (zset)  4 suspects (zset)
--       5 leases (zset)  6 leased (hash)  7 dupefilter (set or hash)  8 stats (hash)
--       9 started (set)  10 control (hash)  11 failed (stream)  12 history (stream)
--       13… keys of seeds
-- ARGV  1 worker number  2 '1': if nothing is left, the crawl has finished; '0': it goes on
--       all the same; '': as the others see it  3 ms of silence after which another worker is not counted as
--       present  4 '1': keep a finished crawl  5 reason of the closing
-- Reply outcome (0 something is left, or others are here, or a finished crawl is kept;
--       1 the frontier was deleted; 2 nothing is left, and the frontier is kept all the
--       same), fingerprints known
-- Cost  O(log workers + log leases + keys of seeds)
-- @use ending
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local left = redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4])
  + math.max(redis.call('ZCARD', KEYS[5]), redis.call('HLEN', KEYS[6]))
redis.call('ZCARD', KEYS[1])
redis.call('HLEN', KEYS[6])
local kind = redis.call('TYPE', KEYS[7])
local seen
if (kind.ok or kind) == 'hash' then
  seen = tonumber(redis.call('HGET', KEYS[7], 'count') or nil) or 0
else
  seen = redis.call('SCARD', KEYS[7])
end
redis.call('HLEN', KEYS[8])
redis.call('SCARD', KEYS[9])
redis.call('HLEN', KEYS[10])
redis.call('XLEN', KEYS[11])
redis.call('XLEN', KEYS[12])
local sizes = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
for i = 13, #KEYS do
  kind = redis.call('TYPE', KEYS[i])
  local size = sizes[kind.ok or kind]
  left = left + (size and redis.call(size, KEYS[i]) or 0)
end
redis.call('HDEL', KEYS[2], 'commit:' .. ARGV[1])
if redis.call('ZCOUNT', KEYS[5], ARGV[1], ARGV[1]) > 0 then
  -- It does not know of these leases. Whoever reaps finds a worker long dead.
  redis.call('ZADD', KEYS[1], 1, ARGV[1])
  return {0, seen}
end
redis.call('HDEL', KEYS[2], 'worker:' .. ARGV[1], 'since:' .. ARGV[1], 'beat:' .. ARGV[1],
  'handed:' .. ARGV[1], 'strange:' .. ARGV[1], 'process:' .. ARGV[1],
  'format:' .. ARGV[1])
redis.call('HDEL', KEYS[10], 'stop:' .. ARGV[1], 'busy:' .. ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
left = left + busy_workers(KEYS[10], KEYS[1])
local present = redis.call('ZCOUNT', KEYS[1], '(' .. now - ARGV[3], '+inf')
if left > 0 then
  return {0, seen}
elseif ARGV[2] ~= '1' then
  if ARGV[2] == '0' then
    redis.call('HDEL', KEYS[2], 'finished')
  end
  return {present == 0 and 2 or 0, seen}
end
local active = tonumber(redis.call('HGET', KEYS[2], 'active') or nil) or 0
local finished = string.format('%.0f', math.max(now, active))
if present > 0 then
  redis.call('HSET', KEYS[2], 'finished', finished)
  return {0, seen}
end
-- Not once more if a reply was lost.
local is_new = (tonumber(redis.call('HGET', KEYS[2], 'recorded') or nil) or -1) < active
if is_new then
  write_record(KEYS[12], KEYS[2], KEYS[11], now, ARGV[5])
end
if ARGV[4] == '1' then
  if is_new then
    redis.call('HSET', KEYS[2], 'finished', finished, 'recorded', finished)
  end
  return {0, seen}
end
delete_fingerprints(KEYS[7])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8],
  KEYS[9], KEYS[10])
return {1, seen}
