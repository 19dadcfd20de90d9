-- Take up what has failed while S:failed was full: as much as it has room for.
--
-- What workers died of becomes a dead letter; the rest is handed out again.
--
-- KEYS  suspects (zset)  failed (stream)  state (hash)
--       tasks (hash)  tasks_ended (zset)
-- ARGV  failed_limit: most dead letters
--       max_deliveries: deaths after which a request has failed
-- Reply requests that were taken up, requests that still wait for room
-- Cost  O(requests per call * log(suspects))
-- @use dead_letters
local waiting = redis.call('ZCOUNT', suspects, '+inf', '+inf')
local room = math.min(failed_limit - redis.call('XLEN', failed), waiting, 100)
if room <= 0 then
  return {0, waiting}
end
redis.call('HDEL', state, '') -- runs above maxmemory too
local members = redis.call('ZRANGEBYSCORE', suspects, '+inf', '+inf', 'LIMIT', 0, room)
for _, member in ipairs(members) do
  local deaths, claims, _, _, payload = read_suspect(member)
  if tonumber(deaths) >= tonumber(max_deliveries) then
    write_letter(payload, died_of(deaths), '', deaths, claims)
    redis.call('ZREM', suspects, member)
  else
    redis.call('ZADD', suspects, 0, member)
  end
end
local now = now_ms()
redis.call('HSET', state, 'active', now)
store_tasks(now)
return {#members, waiting - #members}
