-- A worker joins the frontier, or joins again after it was declared dead.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 requests (zset)  4 suspects (zset)
--       5 leases (zset)  6 leased (hash)  7 dupefilter (set or hash)  8 stats (hash)
--       9 started (set)  10 control (hash)  11 failed (stream)  12 history (stream)
-- ARGV  1 worker number  2 facts for people  3 number of the last commit
--       4 ms of silence after which another worker is not counted as present
--       5 '1': delete what an earlier crawl left, if no other worker is present
--       6 ms of silence after which a worker is dead  7 '1': keep a finished crawl
--       8 format that it writes  9 oldest format that it reads, see version.py
--       10 the crawl that it belonged to before it was declared dead, else ''
--       11 check value of its secret, '' without one, see codec/seal.py
--       12 ms since it was started, if a crawl that has ended since was its, else 0
-- Reply others present, outcome (0 joined, 1 cleared first, 2 flush refused, 5 its crawl has
--       finished without it, 7 the same while it was starting: not joined in both), pending,
--       1 if no fingerprint is known, crawl; or,
--       and then nothing was written, others present, 3 and the format that it cannot read,
--       or 4 and a worker of another format, or 6 and the frontier's check value
-- Cost  O(workers)
-- @use entry
-- @use ending
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local left = redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4])
  + math.max(redis.call('ZCARD', KEYS[5]), redis.call('HLEN', KEYS[6]))
local compact = redis.call('TYPE', KEYS[7])
compact = (compact.ok or compact) == 'hash'
redis.call(compact and 'HLEN' or 'SCARD', KEYS[7])
redis.call('HLEN', KEYS[8])
redis.call('SCARD', KEYS[9])
redis.call('HLEN', KEYS[10])
redis.call('XLEN', KEYS[11])
redis.call('XLEN', KEYS[12])
local others = redis.call('ZCOUNT', KEYS[1], '(' .. now - ARGV[4], '+inf')
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  others = others - 1
end
local format = tonumber(redis.call('HGET', KEYS[2], 'format') or 1)
if not redis.call('HGET', KEYS[2], 'format') then
  -- Before there were numbers: requests that are leased tell.
  local ids = redis.call('ZRANGE', KEYS[5], 0, 9)
  local entries = #ids > 0 and redis.call('HMGET', KEYS[6], unpack(ids)) or {}
  local own, strange = 0, 0
  for i, id in ipairs(ids) do
    if entries[i] and is_entry(entries[i], id) then
      own = own + 1
    elseif entries[i] then
      strange = strange + 1
    end
  end
  format = strange > own and 0 or format
end
if not format or format > tonumber(ARGV[8]) or format < tonumber(ARGV[9]) then
  return {others, 3, format or -1}
end
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now - ARGV[4], '+inf')) do
  local facts = redis.call('HMGET', KEYS[2], 'worker:' .. worker, 'format:' .. worker)
  if facts[1] and worker ~= ARGV[1] and facts[2] ~= ARGV[8] then
    return {others, 4, facts[1]}
  end
end
-- A finished crawl that nobody could clear: its last worker was killed, not closed. What
-- was done since then is another one's work: a spider that waits for seeds.
local facts = redis.call('HMGET', KEYS[2], 'finished', 'active', 'recorded', 'crawl')
local finished = left == 0 and facts[1]
  and (tonumber(facts[2] or nil) or 0) <= (tonumber(facts[1] or nil) or 0)
local outcome = 0
if ARGV[10] ~= '' then
  if facts[4] == ARGV[10] and finished and others <= 0 then
    outcome = 5
  elseif facts[4] ~= ARGV[10] and has_record(KEYS[12], ARGV[10]) then
    return {math.max(others, 0), 5, 0, 0, ARGV[10]}
  end
end
if tonumber(ARGV[12]) > 0 and others <= 0 and left == 0 and (finished or not facts[4]) then
  local crawl, ended = newest_record(KEYS[12])
  if crawl and ended > now - ARGV[12] then
    return {0, 7, 0, 0, crawl}
  end
end
-- Nobody here could read what is left, and the others not what this one stores.
local signed = redis.call('HGET', KEYS[2], 'signed') or ''
if signed ~= ARGV[11] and outcome == 0 and redis.call('EXISTS', KEYS[2]) == 1
  and (others > 0 or (left > 0 and ARGV[5] ~= '1')) then
  return {math.max(others, 0), 6, signed}
end
redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too: more workers drain it sooner
if others > 0 then
  outcome = ARGV[5] == '1' and 2 or 0
else
  if finished and (tonumber(facts[3] or nil) or -1) < (tonumber(facts[2] or nil) or 0) then
    write_record(KEYS[12], KEYS[2], KEYS[11], tonumber(facts[2] or nil) or now, 'finished')
  end
  if ARGV[5] == '1' or (finished and ARGV[7] ~= '1') then
    delete_fingerprints(KEYS[7])
    redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[8],
      KEYS[9], KEYS[10])
    outcome = outcome == 5 and 5 or 1
  elseif outcome == 5 then
    redis.call('HSET', KEYS[2], 'recorded', facts[1])
  elseif finished then
    -- A new crawl on kept fingerprints: its start requests are taken once more.
    redis.call('UNLINK', KEYS[9])
    redis.call('HDEL', KEYS[2], 'finished', 'recorded', 'pages', 'items', 'joined',
      'letters', 'crawl')
  end
end
if outcome == 5 then
  return {0, 5, 0, 0, ARGV[10]}
end
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if newest and now - newest > tonumber(ARGV[6]) then
  -- Nobody has beaten lately, so Redis may have been away: see beat.lua.
  redis.call('HSET', KEYS[2], 'grace', string.format('%.0f', now + ARGV[6]))
end
redis.call('HSET', KEYS[2], 'worker:' .. ARGV[1], ARGV[2], 'commit:' .. ARGV[1], ARGV[3],
  'ttl', ARGV[6], 'format', ARGV[8], 'format:' .. ARGV[1], ARGV[8])
if ARGV[11] ~= '' then
  redis.call('HSET', KEYS[2], 'signed', ARGV[11])
else
  redis.call('HDEL', KEYS[2], 'signed')
end
redis.call('HSETNX', KEYS[2], 'active', string.format('%.0f', now))
redis.call('HSETNX', KEYS[2], 'since:' .. ARGV[1], string.format('%.0f', now))
if redis.call('HSETNX', KEYS[2], 'crawl', string.format('%.0f-', now) .. ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'letters', redis.call('XLEN', KEYS[11]))
end
if ARGV[10] == '' then
  -- As a value: a torn file may be played twice.
  local joined = redis.call('HGET', KEYS[2], 'joined')
  redis.call('HSET', KEYS[2], 'joined', (tonumber(joined or nil) or 0) + 1)
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
-- Buckets of an earlier crawl may be left in the hash.
local seen = redis.call('SCARD', KEYS[9])
  + (compact and redis.call('HEXISTS', KEYS[7], 'epoch') or redis.call('SCARD', KEYS[7]))
return {math.max(others, 0), outcome, redis.call('ZCARD', KEYS[3]), seen == 0 and 1 or 0,
  redis.call('HGET', KEYS[2], 'crawl')}
