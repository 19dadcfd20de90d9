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

-- The least power of 2 that is above *buckets*.
local function power_above(buckets)
  local power = 1
  while power <= buckets do
    power = 2 * power
  end
  return power
end

-- Whether who knows of *known* buckets has named the right ones.
local function are_named(buckets, known)
  return known <= buckets and buckets < power_above(known)
end
