-- All fingerprints: a set, or a hash that tells of buckets (see buckets.py).
-- @use kinds
-- @needs dupefilter

-- 0 where a filter of the project's keeps something else.
local function count_fingerprints()
  local kind = kind_of(dupefilter)
  if kind == 'hash' then
    return tonumber(redis.call('HGET', dupefilter, 'count') or nil) or 0
  end
  return kind == 'set' and redis.call('SCARD', dupefilter) or 0
end

-- Buckets may be millions of keys: their name is noted, and they are deleted some at a time
-- (see Frontier.sweep).
local function delete_fingerprints()
  if kind_of(dupefilter) ~= 'hash' then
    redis.call('UNLINK', dupefilter)
    return
  end
  redis.call('HDEL', dupefilter, '') -- runs above maxmemory too: it frees memory
  local shape = redis.call('HMGET', dupefilter, 'epoch', 'buckets')
  if shape[1] then
    redis.call('HSET', dupefilter, 'old:' .. shape[1], shape[2])
    redis.call('HDEL', dupefilter, 'epoch', 'buckets', 'count')
  end
end
