-- Delete parts of a frontier, or all of it, in one moment; their memory is freed later.
--
-- KEYS  1 workers (zset)  2 dupefilter (set, or hash: see buckets.py)  3 state (hash)
--       4… keys to delete
-- ARGV  1 ms of silence after which a worker is dead, if no worker has told
--       2 '1': also while workers live
--       3 '1': delete the dupefilter too
-- Reply workers alive, 1 if it was done (0: workers live)
-- Cost  O(log(workers)) here, and O(entries) in a thread of Redis
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ttl = redis.call('HGET', KEYS[3], 'ttl') or ARGV[1]
local alive = redis.call('ZCOUNT', KEYS[1], '(' .. now - ttl, '+inf')
if alive > 0 and ARGV[2] ~= '1' then
  return {alive, 0}
end
if ARGV[3] == '1' then
  local kind = redis.call('TYPE', KEYS[2])
  if (kind.ok or kind) == 'hash' then
    -- Millions of buckets, perhaps: see register.lua.
    redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too: it frees memory
    local shape = redis.call('HMGET', KEYS[2], 'epoch', 'buckets')
    if shape[1] then
      redis.call('HSET', KEYS[2], 'old:' .. shape[1], shape[2])
      redis.call('HDEL', KEYS[2], 'epoch', 'buckets', 'count')
    end
  else
    redis.call('UNLINK', KEYS[2])
  end
end
if #KEYS > 3 then
  redis.call('UNLINK', unpack(KEYS, 4))
end
return {alive, 1}
