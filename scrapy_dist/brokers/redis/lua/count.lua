-- Bring one worker's stats into the cluster-wide ones.
--
-- KEYS  1 stats (hash)  2 state (hash)
-- ARGV  1 '1': only if the frontier still exists, then for each stat: operation (inc, set,
--       max, min), name, value
-- Reply stats changed
-- Cost  O(stats)
redis.call('HLEN', KEYS[1])
if ARGV[1] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then
  return 0
end
redis.call('HDEL', KEYS[1], '') -- runs above maxmemory too
for i = 2, #ARGV, 3 do
  local operation, name, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local old = tonumber(redis.call('HGET', KEYS[1], name) or nil)
  if operation == 'inc' and old then
    redis.call('HINCRBYFLOAT', KEYS[1], name, value)
  elseif operation == 'max' and old then
    if tonumber(value) > old then redis.call('HSET', KEYS[1], name, value) end
  elseif operation == 'min' and old then
    if tonumber(value) < old then redis.call('HSET', KEYS[1], name, value) end
  else
    redis.call('HSET', KEYS[1], name, value)
  end
end
return (#ARGV - 1) / 3
