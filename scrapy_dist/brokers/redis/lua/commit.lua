-- Store what a worker produced, then acknowledge what it has finished.
--
-- KEYS  1 requests (zset)  2 dupefilter (set, or hash: see buckets.py)  3 leases (zset)
--       4 leased (hash)  5 workers (zset)  6 state (hash)  7 started (set)
--       8 failed (stream)  9 suspects (zset)  10… keys of items (list), then for each
--       fingerprint of the requests its bucket and, where it may not be split yet, the one
--       it is split from
-- ARGV  1 worker number  2 number of this commit  3 '1': newest first (LIFO)
--       4 worker for people  5 most dead letters (what fails above that stays a suspect)
--       6 leases  7 requests  8 items
--       9 epoch of the buckets ('': dupefilter is a set)  10 how many are known
--       11 keys of items  12 leases with the verdict '+'  13 leases with the verdict '='
--       14 the score of all requests, or the scores of each
--       15 pages that end besides the leases (hops), less the leases that are no pages
--       16 payloads of all requests in one  17 where each begins, and the last one ends:
--       numbers of 4 bytes, the highest first (both '': see below)  18 '1': all requests are of the first kind
--       of fingerprint, then
--       leases: their order ids, those with '+' first, then those with '='
--       verdicts of the other leases: '-' or the reason of a dead letter
--       requests: fingerprint (else '!…' = a start request, to be taken once per crawl;
--       '!!…' = one that equals an earlier one of its start(): only the others of its
--       name filter it;
--       '' = do not filter; '#n' = do not filter, part of lease n; '@n size …' = was
--       crawled already under lease n, which ends now: its fingerprint of that size, then
--       the reason if it is a dead letter)
--       items: index of their key in KEYS, lease that they are part of (0: none), data
--       payloads of the requests, if they are not in one
--       of the fingerprints, if there are buckets: one text of '-' for each that has one
--       key, and the number of its bucket for each that has two
--       Verdicts: '+' ack, '=' ack of a page that produced nothing, '-' none yet, its
--       lease is only asked for. What is part of a lease is stored only if the lease is
--       still this worker's.
-- Reply outcome (1 done, 2 was done before, 3 Redis is full: only '=' were acknowledged,
--       4 the buckets are others: epoch, buckets and fingerprints follow, 0 unknown
--       worker, -1 an earlier commit is missing), leases that were not this worker's
--       (of an earlier try: 1 if there were any), buckets and fingerprints in them (0 for a
--       set), positions of filtered requests
-- Cost  O(requests * log(pending) + items + leases * log(leases))
-- @use entry
-- @use letters
local call, format, KEYS, ARGV = redis.call, string.format, KEYS, ARGV
local worker, number = ARGV[1], tonumber(ARGV[2])
local leases, requests, items = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local acks = tonumber(ARGV[12])
local simple = acks + ARGV[13]
-- Keys that may be written and that nothing below reads before that.
call('ZCARD', KEYS[1])
if leases > 0 then
  call('HLEN', KEYS[4])
end
for i = 10, 9 + ARGV[11] do
  call('LLEN', KEYS[i])
end
if not call('ZSCORE', KEYS[5], worker) then
  return {0, 0}
end
local state = call('HMGET', KEYS[6], 'commit:' .. worker, 'pages', 'order', 'items')
local stored = tonumber(state[1] or -1)
if stored >= number then
  -- The reply was lost. That leases were not ours must not be: their parts were not taken.
  local strange = call('HGET', KEYS[6], 'strange:' .. worker)
  return {2, strange and tonumber(strange) >= number and 1 or 0}
elseif stored ~= number - 1 then
  return {-1, 0}
end
local now = call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)

-- Asking for an owner costs more than asking what this worker holds: a number of 52 bits
-- is slow to print, and a small sorted set is searched from its beginning each time. What
-- ends is mostly among the oldest.
local held, lost = {}, 0
if leases > 0 then
  local oldest = call('ZRANGEBYSCORE', KEYS[3], worker, worker,
    'LIMIT', '0', format('%d', 2 * leases))
  for i = 1, #oldest do
    held[oldest[i]] = true
  end
  local others = {}
  for i = 19, 18 + leases do
    local id = ARGV[i]
    if not held[id] then
      others[#others + 1] = id
    end
  end
  for i, owner in ipairs(#others > 0 and call('ZMSCORE', KEYS[3], unpack(others)) or {}) do
    held[others[i]] = owner and tonumber(owner) == tonumber(worker)
    lost = lost + (held[others[i]] and 0 or 1)
  end
end
local function is_ours(lease)
  return held[ARGV[18 + lease]]
end

local reply, at = {1, lost, 0, 0}, 18 + 2 * leases - simple
-- Known: 1 by position. Filtered: position of each fingerprint that is looked up.
local marks, fingerprints, filtered, known, count = {}, {}, {}, {}, 0
-- Hops: whether their lease is ours, their fingerprint, the reason of a dead letter.
local hops, letters = {}, simple < leases
if ARGV[18] == '1' then
  count = requests
  fingerprints = {unpack(ARGV, at + 1, at + requests)}
end
for i = 1, requests - count do
  local fingerprint = ARGV[at + i]
  local mark = fingerprint:byte(1) or 0
  marks[i] = (mark == 0 or mark == 33 or mark == 35 or mark == 64) and mark -- '!' '#' '@'
  if mark == 64 then
    local lease, size, from = fingerprint:match('^@(%d+) (%d+) ()')
    fingerprint = fingerprint:sub(from, from + size - 1)
    local reason = ARGV[at + i]:sub(from + size)
    hops[i] = {is_ours(lease), fingerprint, reason}
    letters = letters or reason ~= ''
    mark = size == '0' and 0 or mark
  end
  if mark ~= 0 and mark ~= 35 then
    if mark == 33 then
      fingerprint = fingerprint:sub(2)
      known[i] = call('SISMEMBER', KEYS[7], fingerprint)
    end
    if mark ~= 33 or fingerprint:byte(1) ~= 33 then
      count = count + 1
      fingerprints[count], filtered[count] = fingerprint, i
    end
  end
end
if letters then
  call('XLEN', KEYS[8])
  call('ZCARD', KEYS[9])
end
-- The largest power of 2 that is not above *n*.
local function level(n)
  local power = 1
  while 2 * power <= n do
    power = 2 * power
  end
  return power
end
local bucket_of = {}
if count > 0 and ARGV[9] == '' then
  local found = call('SMISMEMBER', KEYS[2], unpack(fingerprints))
  if ARGV[18] == '1' then
    known = found
  end
  for n, i in ipairs(filtered) do
    known[i] = marks[i] == 33 and known[i] or found[n]
  end
elseif count > 0 then
  -- CompactDupeFilter, see buckets.py: a bucket that is not split yet stands for two.
  local shape = call('HMGET', KEYS[2], 'epoch', 'buckets', 'count')
  local buckets, least = tonumber(shape[2] or 0), tonumber(ARGV[10])
  if not shape[1] then
    call('HDEL', KEYS[6], '') -- a new set is small: above maxmemory too
    shape[1], buckets = format('%d', now), 1
    call('HSET', KEYS[2], 'epoch', shape[1], 'buckets', 1, 'count', 0)
  end
  reply[3], reply[4] = buckets, tonumber(shape[3] or 0)
  if shape[1] ~= ARGV[9] or buckets < least or buckets >= 2 * level(least) then
    return {4, shape[1], reply[3], reply[4]}
  end
  local n, at_key = 0, 10 + ARGV[11]
  for bucket in ARGV[#ARGV]:gmatch('%S+') do
    n = n + 1
    local fingerprint, i, key = fingerprints[n], filtered[n] or n, KEYS[at_key]
    if bucket ~= '-' then
      key = tonumber(bucket) < buckets and key or KEYS[at_key + 1]
      at_key = at_key + 1
    end
    at_key = at_key + 1
    bucket_of[fingerprint] = key
    if marks[i] ~= 33 then
      known[i] = call('SISMEMBER', key, fingerprint)
    end
  end
end
local fresh, new, started, followed, taken = {}, {}, {}, {}, {}
local fresh_count, new_count, duplicates = 0, 0, 0
for i = 1, requests do
  local fingerprint, mark, hop = ARGV[at + i], marks[i], hops[i]
  if hop then
    if hop[1] and hop[2] ~= '' then
      followed[#followed + 1] = hop[2]
    end
  elseif known[i] == 1 or taken[fingerprint] then
    duplicates = duplicates + 1
    reply[4 + duplicates] = i - 1
  elseif mark ~= 35 or is_ours(fingerprint:sub(2)) then
    fresh_count = fresh_count + 1
    fresh[fresh_count] = i
    if not mark or mark == 33 then
      taken[fingerprint] = true
      if mark then
        fingerprint = fingerprint:sub(2)
        started[#started + 1] = fingerprint
        taken[fingerprint] = true
      end
      if not mark or fingerprint:byte(1) ~= 33 then
        new_count = new_count + 1
        new[new_count] = fingerprint
      end
    end
  end
end

local function finish(verdicts)
  local done = {}
  if lost == 0 and simple == leases and not verdicts and leases > 0 then
    done = {unpack(ARGV, 19, 18 + leases)}
  end
  for i = #done + 1, leases do
    local id = ARGV[18 + i]
    local verdict = i <= acks and '+' or i <= simple and '=' or ARGV[18 + leases + i - simple]
    if held[id] and verdict ~= '-' and (not verdicts or verdict == verdicts) then
      done[#done + 1] = id
      local entry = verdict ~= '+' and verdict ~= '=' and call('HGET', KEYS[4], id)
      if entry then
        local _, deaths, claims, payload = read_entry(entry)
        if has_room(KEYS[8], ARGV[5]) then
          write_letter(KEYS[8], payload, verdict, ARGV[4], deaths + 1, claims)
        else
          keep_failed(KEYS[9], id, deaths, claims, payload)
        end
      end
    end
  end
  if #done > 0 then
    local besides = verdicts and math.min(0, ARGV[15]) or ARGV[15]
    local pages = (tonumber(state[2] or nil) or 0) + math.max(0, #done + besides)
    call('HSET', KEYS[6], 'pages', format('%d', pages))
    call('HDEL', KEYS[4], unpack(done))
    call('ZREM', KEYS[3], unpack(done))
  end
end

local payloads, ends = ARGV[16], ARGV[17]
local apart = at + requests + 3 * items
local function payload_of(n)
  if ends == '' then
    return ARGV[apart + n]
  end
  local a, b, c, d, e, f, g, h = ends:byte(4 * n - 3, 4 * n + 4)
  return payloads:sub(((a * 256 + b) * 256 + c) * 256 + d + 1,
    ((e * 256 + f) * 256 + g) * 256 + h)
end

local members, newest_first = {}, ARGV[3] == '1'
-- An order id never comes again, also when Redis goes back to older data: it is made
-- of the time (1024 ids a ms since 2025), and written as a value, not as a difference,
-- so that a torn file that is played twice does no harm.
local order = math.max(tonumber(state[3] or 0), (now - 1735689600000) * 1024)
if fresh_count > 0 or items > 0 then
  -- Redis looks at its memory at the first write of a script only.
  local first = redis.pcall('HSET', KEYS[6], 'order', format('%d', order + fresh_count))
  if type(first) == 'table' and first.err then
    if not first.err:find('OOM', 1, true) then
      return redis.error_reply(first.err)
    end
    call('HDEL', KEYS[6], '')
    finish('=')
    return {3, lost}
  end
  local digits = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd',
    'e', 'f'}
  local scores = {}
  if ARGV[14]:find(' ', 1, true) then
    for score in ARGV[14]:gmatch('%S+') do
      scores[#scores + 1] = score
    end
  end
  local score = ARGV[14]
  local high, head
  for i = 1, fresh_count do
    local n = fresh[i]
    local id = newest_first and 9007199254740991 - order - i or order + i
    local low = id % 16
    if id - low ~= high then
      high = id - low
      head = format('%015x', high / 16)
    end
    members[2 * i - 1] = scores[n] or score
    members[2 * i] = head .. digits[low] .. payload_of(n)
  end
else
  call('HDEL', KEYS[6], '') -- acks go on above maxmemory
end
if fresh_count > 0 then
  call('ZADD', KEYS[1], unpack(members))
end
local function see(new)
  if #new > 0 and ARGV[9] == '' then
    call('SADD', KEYS[2], unpack(new))
  elseif #new > 0 then
    local added = 0
    for _, fingerprint in ipairs(new) do
      added = added + call('SADD', bucket_of[fingerprint], fingerprint)
    end
    reply[4] = reply[4] + added
    call('HSET', KEYS[2], 'count', reply[4])
  end
end
see(new)
if #started > 0 then
  call('SADD', KEYS[7], unpack(started))
end
at = at + requests - 2
local pushed = items
for i = 1, items do
  local lease = tonumber(ARGV[at + 1 + 3 * i])
  if lease == 0 or is_ours(lease) then
    call('RPUSH', KEYS[tonumber(ARGV[at + 3 * i])], ARGV[at + 2 + 3 * i])
  else
    pushed = pushed - 1
  end
end
for i = 1, letters and requests or 0 do
  local hop = hops[i]
  if hop and hop[1] and hop[3] ~= '' then
    if has_room(KEYS[8], ARGV[5]) then
      write_letter(KEYS[8], payload_of(i), hop[3], ARGV[4], 1, '-')
    else
      fresh_count = fresh_count + 1
      local id = newest_first and 9007199254740991 - order - fresh_count
        or order + fresh_count
      call('HSET', KEYS[6], 'order', format('%d', order + fresh_count))
      keep_failed(KEYS[9], format('%016x', id), 0, '-', payload_of(i))
    end
  end
end
if lost > 0 then
  call('HSET', KEYS[6], 'strange:' .. worker, ARGV[2])
end
if pushed > 0 then
  pushed = pushed + (tonumber(state[4] or nil) or 0)
  call('HSET', KEYS[6], 'items', format('%d', pushed))
end
call('HSET', KEYS[6], 'commit:' .. worker, ARGV[2],
  'active', format('%d', now))
finish()
-- Behind all that the hops have produced: if this is torn, they are crawled again.
see(followed)
return reply
