-- Split buckets of fingerprints, so that each stays small. Linear hashing, see buckets.py.
--
-- KEYS  dupefilter (hash)  buckets*: for some numbers, in order: the bucket that is to be
--       split, and the bucket of that number (set)
-- ARGV  epoch: of the buckets  first: number of the first of them
--       load: fingerprints that one should hold  splits: most buckets to split
-- Reply epoch, buckets, fingerprints
-- Cost  O(buckets * fingerprints of one)
-- @use buckets
local shape = redis.call('HMGET', dupefilter, 'epoch', 'buckets', 'count')
local number, count = tonumber(shape[2] or 0), tonumber(shape[3] or 0)
if shape[1] ~= epoch then
  return {shape[1] or '', number, count}
end
-- A number of 64 bits has more digits than Lua's have room for.
local function modulo(fingerprint, n)
  local digits = fingerprint:gsub('^-', '')
  local high, low = digits:sub(1, -10), digits:sub(-9)
  high = high == '' and 0 or tonumber(high) % n
  return (high * (1000000000 % n) + tonumber(low)) % n
end
for _ = 1, splits do
  local at = buckets_at + 1 + 2 * (number - first)
  local old, new = KEYS[at], KEYS[at + 1]
  if count <= number * load or at <= buckets_at or not new then
    break
  end
  local period = power_above(number)
  local moved = {}
  for _, fingerprint in ipairs(redis.call('SMEMBERS', old)) do
    if modulo(fingerprint, period) == number then
      moved[#moved + 1] = fingerprint
    end
  end
  redis.call('HDEL', dupefilter, '') -- runs above maxmemory too: it saves memory
  if #moved > 0 then
    redis.call('SADD', new, unpack(moved))
  end
  number = number + 1
  redis.call('HSET', dupefilter, 'buckets', number)
  if #moved > 0 then
    redis.call('SREM', old, unpack(moved))
  end
end
return {shape[1], number, count}
