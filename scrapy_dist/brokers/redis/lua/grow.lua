-- Split buckets of fingerprints, so that each stays small. Linear hashing, see buckets.py.
--
-- KEYS  1 dupefilter (hash), then for some numbers of buckets, in order: the bucket that
--       is to be split, and the bucket of that number (set)
-- ARGV  1 epoch  2 number of the first of these buckets  3 fingerprints that one bucket
--       should hold  4 most buckets to split
-- Reply epoch, buckets, fingerprints
-- Cost  O(buckets * fingerprints of one)
local shape = redis.call('HMGET', KEYS[1], 'epoch', 'buckets', 'count')
local buckets, count = tonumber(shape[2] or 0), tonumber(shape[3] or 0)
if shape[1] ~= ARGV[1] then
  return {shape[1] or '', buckets, count}
end
-- A number of 64 bits has more digits than Lua's have room for.
local function modulo(number, n)
  local digits = number:gsub('^-', '')
  local high, low = digits:sub(1, -10), digits:sub(-9)
  high = high == '' and 0 or tonumber(high) % n
  return (high * (1000000000 % n) + tonumber(low)) % n
end
for _ = 1, ARGV[4] do
  local at = 2 + 2 * (buckets - ARGV[2])
  if count <= buckets * ARGV[3] or at < 2 or not KEYS[at + 1] then
    break
  end
  local period = 1
  while period <= buckets do
    period = 2 * period
  end
  local moved = {}
  for _, fingerprint in ipairs(redis.call('SMEMBERS', KEYS[at])) do
    if modulo(fingerprint, period) == buckets then
      moved[#moved + 1] = fingerprint
    end
  end
  redis.call('HDEL', KEYS[1], '') -- runs above maxmemory too: it saves memory
  if #moved > 0 then
    redis.call('SADD', KEYS[at + 1], unpack(moved))
  end
  buckets = buckets + 1
  redis.call('HSET', KEYS[1], 'buckets', buckets)
  if #moved > 0 then
    redis.call('SREM', KEYS[at], unpack(moved))
  end
end
return {shape[1], buckets, count}
