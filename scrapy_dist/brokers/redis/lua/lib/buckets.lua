-- Fingerprints in buckets, see buckets.py: a bucket that is not split yet stands for two.
-- @use clock
-- @needs dupefilter

-- Epoch, number of buckets, fingerprints in them; there are some from now on.
local function read_shape()
  local shape = redis.call('HMGET', dupefilter, 'epoch', 'buckets', 'count')
  if not shape[1] then
    redis.call('HDEL', dupefilter, '') -- a new set is small: above maxmemory too
    shape = {string.format('%d', now_ms()), 1, 0}
    redis.call('HSET', dupefilter, 'epoch', shape[1], 'buckets', 1, 'count', 0)
  end
  return shape[1], tonumber(shape[2] or 0), tonumber(shape[3] or 0)
end

-- Whether who knows of *known* buckets has named the right ones.
local function are_named(buckets, known)
  local level = 1 -- the largest power of 2 that is not above
  while 2 * level <= known do
    level = 2 * level
  end
  return known <= buckets and buckets < 2 * level
end
