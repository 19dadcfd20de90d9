-- How a crawl stands, for people. Writes nothing.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  state (hash)  workers (zset)
--       control (hash)  dupefilter (set, or hash with its count)  failed (stream)
--       items (list)  tasks (hash)  tasks_ended (zset)
--       seed_keys*: (list, set or zset)
-- ARGV  ttl_ms: of silence after which a worker is dead, if no worker has told
--       most: workers in the reply
-- Reply now (ms), 1 if there is a frontier, pending, suspects, leases, failed, seen,
--       seeds, items, pages, ms since when paused or false, tasks, those of them that
--       have not ended, how many are in which state, then for each worker, the latest beat
--       first: number, ms since its last beat, 1 if alive, leases held, 1 if asked to stop,
--       name, ms when it came, facts
-- Cost  O(workers * log(leases))
-- @use clock
-- @use alive
-- @use fingerprints
local now, seeds = now_ms(), 0
local _, ttl = alive_workers(now)
for i = seed_keys_at + 1, #KEYS do
  seeds = seeds + count_seeds(KEYS[i])
end
local reply = {now, redis.call('EXISTS', state), redis.call('ZCARD', requests),
  redis.call('ZCARD', suspects), redis.call('ZCARD', leases), redis.call('XLEN', failed),
  count_fingerprints(), seeds, redis.call('LLEN', items),
  tonumber(redis.call('HGET', state, 'pages') or nil) or 0,
  redis.call('HGET', control, 'paused'), redis.call('ZCARD', tasks_ended),
  redis.call('ZCOUNT', tasks_ended, '+inf', '+inf'), redis.call('HGET', tasks, 'b:')}
local beats = redis.call('ZREVRANGE', workers, 0, most - 1, 'WITHSCORES')
-- Of some workers at a time, because Lua's stack is bounded: one call for all is cheaper.
for first = 1, #beats, 400 do
  local last = math.min(first + 398, #beats - 1)
  local fields, stops = {}, {}
  for i = first, last, 2 do
    for _, field in ipairs({'worker:', 'since:', 'beat:'}) do
      fields[#fields + 1] = field .. beats[i]
    end
    stops[#stops + 1] = 'stop:' .. beats[i]
  end
  local known = redis.call('HMGET', state, unpack(fields))
  local asked = redis.call('HMGET', control, unpack(stops))
  for i = first, last, 2 do
    local number, silent = beats[i], math.max(0, now - beats[i + 1])
    local n, at = (i - first) / 2, #reply
    reply[at + 1] = number:sub(1, 64)
    reply[at + 2] = silent
    reply[at + 3] = silent < ttl and 1 or 0
    reply[at + 4] = number:find('^%d+$') and redis.call('ZCOUNT', leases, number, number)
      or 0
    reply[at + 5] = asked[n + 1] and 1 or 0
    -- As much as workers tell, and one byte more.
    reply[at + 6] = known[3 * n + 1] and known[3 * n + 1]:sub(1, 400)
    reply[at + 7] = known[3 * n + 2] and known[3 * n + 2]:sub(1, 64)
    reply[at + 8] = known[3 * n + 3] and known[3 * n + 3]:sub(1, 4097)
  end
end
return reply
