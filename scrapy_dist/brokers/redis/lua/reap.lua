-- Take the leases of one dead worker away, some at a time; they become suspects.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 leases (zset)  4 leased (hash)
--       5 suspects (zset)  6 failed (stream)  7 control (hash)
-- ARGV  1 ms of silence after which a worker is dead  2 most leases per call
--       3 deaths after which a request has failed  4 most dead letters kept
-- Reply new suspects, newly failed, workers ended
-- Cost  O(leases per call * log(suspects))
-- @use entry
-- @use letters
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('XLEN', KEYS[6])
redis.call('HLEN', KEYS[7])
local silent_since = now - ARGV[1]
if now < tonumber(redis.call('HGET', KEYS[2], 'grace') or 0) then
  silent_since = 1 -- only those that are known to be dead, see gone.lua and leave.lua
end
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if not newest or now - newest > tonumber(ARGV[1]) then
  silent_since = 1 -- Redis was away: the next beat will give the living time
end
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', silent_since, 'LIMIT', 0, 1)[1]
if not dead then
  return {0, 0, 0}
end
redis.call('HDEL', KEYS[2], '')
local ids = redis.call('ZRANGEBYSCORE', KEYS[3], dead, dead, 'LIMIT', 0, ARGV[2])
local suspects, failed = 0, 0
if #ids > 0 then
  local entries = redis.call('HMGET', KEYS[4], unpack(ids))
  for i, id in ipairs(ids) do
    -- No entry: an ack that a torn file cut in half. Its work is done.
    if entries[i] then
      local score, deaths, claims, payload = read_entry(entries[i])
      deaths = deaths + 1
      if deaths >= tonumber(ARGV[3]) then
        if has_room(KEYS[6], ARGV[4]) then
          failed = failed + 1
          write_letter(KEYS[6], payload,
            deaths .. ' workers died while they worked on it',
            redis.call('HGET', KEYS[2], 'worker:' .. dead) or dead, deaths, claims)
        else
          suspects = suspects + 1
          keep_failed(KEYS[5], id, deaths, claims, payload)
        end
      else
        suspects = suspects + 1
        redis.call('ZADD', KEYS[5], score, id .. deaths .. ' ' .. claims .. ' ' .. payload)
      end
    end
  end
  redis.call('HSET', KEYS[2], 'active', string.format('%.0f', now))
  redis.call('HDEL', KEYS[4], unpack(ids))
  redis.call('ZREM', KEYS[3], unpack(ids))
end
if #ids == tonumber(ARGV[2]) then
  return {suspects, failed, 0}
end
redis.call('HDEL', KEYS[2], 'worker:' .. dead, 'commit:' .. dead, 'since:' .. dead,
  'beat:' .. dead, 'handed:' .. dead, 'strange:' .. dead, 'process:' .. dead,
  'format:' .. dead)
redis.call('HDEL', KEYS[7], 'stop:' .. dead, 'busy:' .. dead)
redis.call('ZREM', KEYS[1], dead)
return {suspects, failed, 1}
