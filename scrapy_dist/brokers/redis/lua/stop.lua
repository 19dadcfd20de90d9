-- Ask workers to close; each learns it from its next heartbeat.
--
-- KEYS  control (hash)  workers (zset)
-- ARGV  numbers*: of workers (<= 100)
-- Reply workers asked: those that are registered
-- Cost  O(numbers)
redis.call('HDEL', control, '') -- runs above maxmemory too
local asked = 0
for i = numbers_at + 1, #ARGV do
  if redis.call('ZSCORE', workers, ARGV[i]) then
    redis.call('HSET', control, 'stop:' .. ARGV[i], '1')
    asked = asked + 1
  end
end
return asked
