-- How a crawl stands, for people. Writes nothing.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 state (hash)
--       5 workers (zset)  6 control (hash)  7 dupefilter (set, or hash with its count)
--       8 failed (stream)  9 items (list)  10… keys of seeds
-- ARGV  1 ms of silence after which a worker is dead, if no worker has told
--       2 most workers in the reply
-- Reply now (ms), 1 if there is a frontier, pending, suspects, leases, failed, seen,
--       seeds, items, pages, ms since when paused or false, then for each worker, the
--       latest beat first: number, ms since its last beat, 1 if alive, leases held,
--       1 if asked to stop, name, ms when it came, facts
-- Cost  O(workers * log(leases))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ttl = tonumber(redis.call('HGET', KEYS[4], 'ttl') or ARGV[1])
local function kind_of(key)
  local kind = redis.call('TYPE', key)
  return kind.ok or kind
end
local seen = 0 -- a filter of the project's may keep anything there
if kind_of(KEYS[7]) == 'hash' then
  seen = tonumber(redis.call('HGET', KEYS[7], 'count') or nil) or 0
elseif kind_of(KEYS[7]) == 'set' then
  seen = redis.call('SCARD', KEYS[7])
end
local sizes = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
local seeds = 0
for i = 10, #KEYS do
  local size = sizes[kind_of(KEYS[i])]
  if size then
    seeds = seeds + redis.call(size, KEYS[i])
  end
end
local reply = {now, redis.call('EXISTS', KEYS[4]), redis.call('ZCARD', KEYS[1]),
  redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), redis.call('XLEN', KEYS[8]),
  seen, seeds, redis.call('LLEN', KEYS[9]),
  tonumber(redis.call('HGET', KEYS[4], 'pages') or nil) or 0,
  redis.call('HGET', KEYS[6], 'paused')}
local beats = redis.call('ZREVRANGE', KEYS[5], 0, ARGV[2] - 1, 'WITHSCORES')
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
  local known = redis.call('HMGET', KEYS[4], unpack(fields))
  local asked = redis.call('HMGET', KEYS[6], unpack(stops))
  for i = first, last, 2 do
    local number, silent = beats[i], math.max(0, now - beats[i + 1])
    local n, at = (i - first) / 2, #reply
    reply[at + 1] = number:sub(1, 64)
    reply[at + 2] = silent
    reply[at + 3] = silent < ttl and 1 or 0
    reply[at + 4] = number:find('^%d+$') and redis.call('ZCOUNT', KEYS[3], number, number)
      or 0
    reply[at + 5] = asked[n + 1] and 1 or 0
    -- As much as workers tell, and one byte more.
    reply[at + 6] = known[3 * n + 1] and known[3 * n + 1]:sub(1, 400)
    reply[at + 7] = known[3 * n + 2] and known[3 * n + 2]:sub(1, 64)
    reply[at + 8] = known[3 * n + 3] and known[3 * n + 3]:sub(1, 4097)
  end
end
return reply
