-- The seats that a worker has. What it has asked for before, and is carried out later than
-- this, changes none of them: see lib/rounds.lua.
--
-- KEYS  workers (zset)  state (hash)  slots (zset)
-- ARGV  worker: its number  round: it is in from now on
-- Reply names of its seats
-- Cost  O(log(slots) + seats)
-- @use rounds
-- @use owner
if redis.call('ZSCORE', workers, worker) and not is_late() then
  redis.call('HDEL', state, '') -- runs above maxmemory too
  redis.call('HSET', state, 'round:' .. worker, round)
end
local own = string.format('%.0f', mark_of(worker))
return redis.call('ZRANGEBYSCORE', slots, own, own)
