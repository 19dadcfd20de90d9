-- Declare workers dead whose processes are gone; a reap then takes what they hold.
--
-- KEYS  workers (zset)  state (hash)
-- ARGV  others*: of each worker (<= 100): number, machine and process as `meet` stored them
-- Reply workers that were not dead before
-- Cost  O(workers in ARGV * log(workers))
local done = 0
for i = others_at + 1, #ARGV, 2 do
  local last = redis.call('ZSCORE', workers, ARGV[i])
  -- Else it has left, or is another one by now.
  local is_it = redis.call('HGET', state, 'process:' .. ARGV[i]) == ARGV[i + 1]
  if is_it and last and tonumber(last) > 1 then
    redis.call('HDEL', state, '') -- runs above maxmemory too
    -- Long dead: neither a grace period nor an absence of Redis counts, see reap.lua.
    redis.call('ZADD', workers, 1, ARGV[i])
    done = done + 1
  end
end
return done
