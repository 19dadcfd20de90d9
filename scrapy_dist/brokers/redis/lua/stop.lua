-- Ask workers to close; each learns it from its next beat.
--
-- KEYS  1 control (hash)  2 workers (zset)
-- ARGV  worker numbers (<= 100)
-- Reply workers asked: those that are registered
-- Cost  O(numbers)
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('HDEL', KEYS[1], '') -- runs above maxmemory too
local asked = 0
for _, worker in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[2], worker) then
    redis.call('HSET', KEYS[1], 'stop:' .. worker, '1')
    asked = asked + 1
  end
end
return asked
