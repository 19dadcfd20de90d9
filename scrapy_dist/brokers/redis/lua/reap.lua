-- Take the leases of one dead worker away, some at a time; they become suspects. Then its
-- slots, which may be asked when their delay is over.
--
-- KEYS  workers (zset)  state (hash)  leases (zset)  leased (hash)  suspects (zset)
--       failed (stream)  control (hash)  slots (zset)  politeness (hash)
--       tasks (hash)  tasks_ended (zset)
-- ARGV  ttl_ms: of silence after which a worker is dead  most: leases per call
--       max_deliveries: deaths after which a request has failed
--       failed_limit: most dead letters
--       delay_ms: between two starts in a slot  places: of a slot
-- Reply new suspects, newly failed, workers ended
-- Cost  O(leases per call * log(suspects))
-- @use deaths
-- @use workers
-- @use slot_clock
-- @use seats
local slots_now, now, clock = slot_clock()
local silent_since = now - ttl_ms
if now < tonumber(redis.call('HGET', state, 'grace') or 0) then
  silent_since = 1 -- only those that are known to be dead, see gone.lua and leave.lua
end
local newest = redis.call('ZREVRANGE', workers, 0, 0, 'WITHSCORES')[2]
if not newest or now - newest > tonumber(ttl_ms) then
  silent_since = 1 -- Redis was away: the next heartbeat will give the living time
end
local dead = redis.call('ZRANGEBYSCORE', workers, '-inf', silent_since, 'LIMIT', 0, 1)[1]
if not dead then
  return {0, 0, 0}
end
redis.call('HDEL', state, '')
local ids = redis.call('ZRANGEBYSCORE', leases, dead, dead, 'LIMIT', 0, most)
local new, letters = 0, 0
if #ids > 0 then
  local name = redis.call('HGET', state, 'worker:' .. dead) or dead
  for i, entry in ipairs(redis.call('HMGET', leased, unpack(ids))) do
    -- No entry: an ack that a torn file cut in half. Its work is done.
    if entry and count_death(ids[i], entry, name) then
      letters = letters + 1
    elseif entry then
      new = new + 1
    end
  end
  redis.call('HSET', state, 'active', now)
  redis.call('HDEL', leased, unpack(ids))
  redis.call('ZREM', leases, unpack(ids))
  store_tasks(now)
end
if #ids == tonumber(most) then
  return {new, letters, 0}
end
if free_seats(dead, slots_now, clock, most) == tonumber(most) then
  -- If it beats before the rest is taken it is not known: see heartbeat.lua.
  redis.call('ZADD', workers, 0, dead)
  return {new, letters, 0}
end
forget_worker(dead)
return {new, letters, 1}
