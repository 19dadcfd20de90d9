-- A worker joins the frontier, or joins again after it was declared dead.
--
-- KEYS  workers (zset)  state (hash)  requests (zset)  suspects (zset)  leases (zset)
--       leased (hash)  dupefilter (set or hash)  stats (hash)  started (set)
--       control (hash)  failed (stream)  history (stream)  slots (zset)
--       resting (zset)  politeness (hash)  tasks (hash)  results (hash)
--       tasks_ended (zset)
-- ARGV  worker: its number  info: for people  commit: number of its last one
--       present_ms: of silence after which another worker is not counted as present
--       flush: '1': delete what an earlier crawl left, if no other worker is present
--       ttl_ms: of silence after which a worker is dead  persist: '1': keep a finished crawl
--       format: that it writes  oldest_format: that it reads, see version.py
--       crawl: that it belonged to before it was declared dead, else ''
--       signed: check value of its secret, '' without one, see codec/seal.py
--       polite: its ttl_ms if delays hold for all workers together, else ''
--       age_ms: since it was started, if a crawl that has ended since was its, else 0
-- Reply others present, outcome (0 joined, 1 cleared first, 2 flush refused, 5 its crawl has
--       finished without it, 7 the same while it was starting: not joined in both), pending,
--       1 if no fingerprint is known, crawl; or,
--       and then nothing was written, others present, 3 and the format that it cannot read,
--       or 4 and a worker of another format, or 6 and the frontier's check value, or 8 and
--       the older format of what is to be converted first, see upgrade.py, or 9 and what
--       the others have for polite
-- Cost  O(workers)
-- @use crawl
-- @use history
-- @use keeping
-- @use older
local now = now_ms()
local left = count_left()
local is_compact = kind_of(dupefilter) == 'hash'
redis.call(is_compact and 'HLEN' or 'SCARD', dupefilter)
-- The fields of the newest record, and of the one of *name*; {} where there is none.
local function read_records(name)
  local newest, found
  for _, record in ipairs(redis.call('XREVRANGE', history, '+', '-', 'COUNT', 100)) do
    local fields = {}
    for i = 1, #record[2], 2 do
      fields[record[2][i]] = record[2][i + 1]
    end
    newest = newest or fields
    found = found or fields.crawl == name and fields
  end
  return newest or {}, found or {}
end
-- The format by the form of what is there: before there were numbers, or after somebody has
-- deleted S:state.
local function format_seen()
  local ids = redis.call('ZRANGE', leases, 0, 9)
  local entries = #ids > 0 and redis.call('HMGET', leased, unpack(ids)) or {}
  local own, not_owned, older = 0, 0, false
  for i, id in ipairs(ids) do
    if entries[i] and read_older_entry(entries[i], id) then
      own, older = own + 1, true
    elseif entries[i] and is_entry(entries[i], id) then
      own = own + 1
    elseif entries[i] then
      not_owned = not_owned + 1
    end
  end
  if not_owned > own then
    return 0
  end
  for _, key in ipairs({requests, suspects}) do
    for _, member in ipairs(redis.call('ZRANGE', key, 0, 9)) do
      older = older or is_older_member(member)
    end
  end
  return older and 1 or format
end
local others = redis.call('ZCOUNT', workers, '(' .. now - present_ms, '+inf')
if redis.call('ZSCORE', workers, worker) then
  others = others - 1
end
local mark = redis.call('HGET', state, 'upgrade')
local theirs = tonumber(mark and mark:match('^%d+')
  or redis.call('HGET', state, 'format') or format_seen())
if not theirs or theirs < 1 or theirs > tonumber(format) then
  return {others, 3, theirs or -1}
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', workers, '(' .. now - present_ms, '+inf')) do
  local facts = redis.call('HMGET', state, 'worker:' .. other, 'format:' .. other)
  if facts[1] and other ~= worker and facts[2] ~= format then
    return {others, 4, facts[1]}
  end
end
-- A finished crawl that nobody could clear: its last worker was killed, not closed. What
-- was done since then is another one's work: a spider that waits for seeds.
local facts = redis.call('HMGET', state, 'finished', 'active', 'recorded', 'crawl')
local finished = left == 0 and facts[1]
  and (tonumber(facts[2] or nil) or 0) <= (tonumber(facts[1] or nil) or 0)
local outcome = 0
if crawl ~= '' then
  if facts[4] == crawl and finished and others <= 0 then
    outcome = 5
  elseif facts[4] ~= crawl and select(2, read_records(crawl)).crawl then
    return {math.max(others, 0), 5, 0, 0, crawl}
  end
end
if tonumber(age_ms) > 0 and others <= 0 and left == 0 and (finished or not facts[4]) then
  local newest = read_records()
  if newest.crawl and (tonumber(newest['end'] or nil) or 0) > now - age_ms then
    return {0, 7, 0, 0, newest.crawl}
  end
end
-- What others have is known only if it was told: not by those that are still here after
-- somebody has deleted S:state.
local told = redis.call('HEXISTS', state, 'format') == 1 or theirs < tonumber(oldest_format)
-- Nobody here could read what is left, and the others not what this one stores.
local secret = redis.call('HGET', state, 'signed') or ''
if secret ~= signed and outcome == 0 and (told or secret ~= '')
  and (others > 0 or (left > 0 and flush ~= '1')) then
  return {math.max(others, 0), 6, secret}
end
-- One alone may go on with a crawl in another way.
local manners = redis.call('HGET', state, 'polite') or ''
if manners ~= polite and others > 0 and told then
  return {others, 9, manners}
end
if theirs < tonumber(oldest_format) and left > 0 and (others > 0 or flush ~= '1') then
  return {math.max(others, 0), 8, theirs}
end
redis.call('HDEL', state, '') -- runs above maxmemory too: more workers drain it sooner
if others > 0 then
  outcome = flush == '1' and 2 or 0
else
  if finished and (tonumber(facts[3] or nil) or -1) < (tonumber(facts[2] or nil) or 0) then
    write_record(tonumber(facts[2] or nil) or now, 'finished')
  end
  if flush == '1' or (finished and persist ~= '1') then
    delete_crawl()
    outcome = outcome == 5 and 5 or 1
  elseif outcome == 5 then
    redis.call('HSET', state, 'recorded', facts[1])
  elseif finished then
    -- A new crawl on kept fingerprints: its start requests are taken once more.
    redis.call('UNLINK', started)
    redis.call('HDEL', state, 'finished', 'recorded', 'pages', 'items', 'joined',
      'letters', 'crawl')
  end
end
if outcome == 5 then
  return {0, 5, 0, 0, crawl}
end
local newest = redis.call('ZREVRANGE', workers, 0, 0, 'WITHSCORES')[2]
if newest and now - newest > tonumber(ttl_ms) then
  -- Nobody has beaten lately, so Redis may have been away: see heartbeat.lua.
  redis.call('HSET', state, 'grace', now + ttl_ms)
end
redis.call('HSET', state, 'worker:' .. worker, info, 'commit:' .. worker, commit,
  'ttl', ttl_ms, 'format', format, 'format:' .. worker, format)
redis.call('HDEL', state, 'upgrade')
if signed ~= '' then
  redis.call('HSET', state, 'signed', signed)
else
  redis.call('HDEL', state, 'signed')
end
if polite ~= '' then
  redis.call('HSET', state, 'polite', polite)
else
  redis.call('HDEL', state, 'polite')
end
redis.call('HSETNX', state, 'active', now)
redis.call('HSETNX', state, 'since:' .. worker, now)
if redis.call('HSETNX', state, 'crawl', string.format('%.0f-', now) .. worker) == 1 then
  redis.call('HSET', state, 'letters', redis.call('XLEN', failed))
end
if crawl == '' then
  -- As a value: a torn file may be played twice.
  local joined = redis.call('HGET', state, 'joined')
  redis.call('HSET', state, 'joined', (tonumber(joined or nil) or 0) + 1)
end
redis.call('ZADD', workers, now, worker)
keep_tasks()
-- Buckets of an earlier crawl may be left in the hash.
local is_blank = redis.call('SCARD', started) == 0
if is_compact then
  is_blank = is_blank and not redis.call('HGET', dupefilter, 'epoch')
else
  is_blank = is_blank and redis.call('SCARD', dupefilter) == 0
end
return {math.max(others, 0), outcome, redis.call('ZCARD', requests), is_blank and 1 or 0,
  redis.call('HGET', state, 'crawl')}
