-- Bring one worker's stats into the cluster-wide ones.
--
-- KEYS  stats (hash)  state (hash)
-- ARGV  if_exists: '1': only if there is a frontier
--       changes*: of each stat: operation (inc, set, max, min), name, value
-- Reply stats changed
-- Cost  O(stats)
if if_exists == '1' and redis.call('EXISTS', state) == 0 then
  return 0
end
redis.call('HDEL', stats, '') -- runs above maxmemory too
for i = changes_at + 1, #ARGV, 3 do
  local operation, name, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local old = tonumber(redis.call('HGET', stats, name) or nil)
  if operation == 'inc' and old then
    redis.call('HINCRBYFLOAT', stats, name, value)
  elseif not old or operation == 'set' or operation == 'max' and tonumber(value) > old
      or operation == 'min' and tonumber(value) < old then
    redis.call('HSET', stats, name, value)
  end
end
return changes_count / 3
