-- Declare workers dead whose processes are gone; a reap then takes what they hold.
--
-- KEYS  1 workers (zset)  2 state (hash)
-- ARGV  for each worker (<= 100): number, machine and process as `meet` has stored them
-- Reply workers that were not dead before
-- Cost  O(workers in ARGV * log(workers))
redis.call('ZCARD', KEYS[1])
local dead = {}
for i = 1, #ARGV, 2 do
  -- Else it has left, or is another one by now.
  if redis.call('HGET', KEYS[2], 'process:' .. ARGV[i]) == ARGV[i + 1] then
    dead[#dead + 1] = ARGV[i]
  end
end
local done = 0
for _, worker in ipairs(dead) do
  local last = redis.call('ZSCORE', KEYS[1], worker)
  if last and tonumber(last) > 1 then
    redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too
    -- Long dead: neither a grace period nor an absence of Redis counts, see reap.lua.
    redis.call('ZADD', KEYS[1], 1, worker)
    done = done + 1
  end
end
return done
