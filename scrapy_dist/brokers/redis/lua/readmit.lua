-- Take up what has failed while S:failed was full: as much as it has room for.
--
-- What workers died of becomes a dead letter; the rest is handed out again.
--
-- KEYS  1 suspects (zset)  2 failed (stream)  3 state (hash)
-- ARGV  1 most dead letters  2 deaths after which a request has failed
-- Reply requests that were taken up, requests that still wait for room
-- Cost  O(requests per call * log(suspects))
-- @use letters
redis.call('HLEN', KEYS[3])
local waiting = redis.call('ZCOUNT', KEYS[1], '+inf', '+inf')
local room = math.min(ARGV[1] - redis.call('XLEN', KEYS[2]), waiting, 100)
if room <= 0 then
  return {0, waiting}
end
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HDEL', KEYS[3], '') -- runs above maxmemory too
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '+inf', '+inf', 'LIMIT', 0, room)
for _, member in ipairs(members) do
  local deaths, claims, at = member:match('^(%d+) (%S+) ()', 17)
  if deaths and tonumber(deaths) >= tonumber(ARGV[2]) then
    write_letter(KEYS[2], member:sub(at),
      deaths .. ' workers died while they worked on it', '', deaths, claims)
    redis.call('ZREM', KEYS[1], member)
  else
    redis.call('ZADD', KEYS[1], 0, member)
  end
end
redis.call('HSET', KEYS[3], 'active', now)
return {#members, waiting - #members}
