-- Begin to convert a frontier of an older format, or go on with it: see upgrade.py.
--
-- From now on no worker of the older version comes in or goes on: it does not know the format,
-- and one that has been silent is not in the list any more. What it held is taken up as of a
-- worker that has died.
--
-- KEYS  workers (zset)  state (hash)
-- ARGV  present_ms: of silence after which another worker is not counted as present
--       format: that is written  theirs: the older one, as register.lua tells it
-- Reply 1 and the mark of the last change (see upgrade_end.lua); or, and nothing was written,
--       0: a worker of another version is here, 2: somebody else has ended it
-- Cost  O(workers)
-- @use clock
local now, known = now_ms(), redis.call('HMGET', state, 'format', 'upgrade')
if known[1] == format and not known[2] then
  return {2, ''}
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', workers, '(' .. now - present_ms, '+inf')) do
  local facts = redis.call('HMGET', state, 'worker:' .. other, 'format:' .. other)
  if facts[1] and facts[2] ~= format then
    return {0, ''}
  end
end
redis.call('HDEL', state, '') -- runs above maxmemory too
redis.call('HSETNX', state, 'upgrade', theirs .. ' -')
redis.call('HSET', state, 'format', format)
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - present_ms)
return {1, redis.call('HGET', state, 'upgrade')}
