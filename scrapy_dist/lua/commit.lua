-- Store what a worker produced, then acknowledge what it has finished.
--
-- KEYS  1 requests (zset)  2 dupefilter (set, or hash: see buckets.py)  3 leases (zset)
--       4 leased (hash)  5 workers (zset)  6 state (hash)  7 started (set)
--       8 failed (stream)  9… keys of items (list), then for each fingerprint of the
--       requests its bucket, and the bucket that this one is to be split from (set)
-- ARGV  1 worker number  2 number of this commit  3 '1': newest first (LIFO)
--       4 worker for people  5 most dead letters kept  6 leases  7 requests  8 items
--       9 epoch of the buckets ('': dupefilter is a set)  10 their level
--       11 keys of items  12 leases with the verdict '+'  13 leases with the verdict '='
--       14 the score of all requests, or the scores of each, then
--       leases: their order ids, those with '+' first, then those with '='
--       verdicts of the other leases: '-' or the reason of a dead letter
--       requests: fingerprint ('' = do not filter; '!…' = a start request, to be taken
--       once per crawl; '#n' = do not filter, part of lease n), payload
--       items: index of their key in KEYS, lease that they are part of (0: none), data
--       buckets: fingerprint, space, number of its bucket
--       Verdicts: '+' ack, '=' ack of a page that produced nothing, '-' none yet, its
--       lease is only asked for. What is part of a lease is stored only if the lease is
--       still this worker's.
-- Reply outcome (1 done, 2 was done before, 3 Redis is full: only '=' were acknowledged,
--       4 the buckets are others: epoch, buckets and fingerprints follow, 0 unknown
--       worker, -1 an earlier commit is missing), leases that were not this worker's,
--       buckets and fingerprints in them (0 for a set), positions of filtered requests
-- Cost  O(requests * log(pending) + items + leases * log(leases))
local format = string.format
local worker, number = ARGV[1], tonumber(ARGV[2])
local leases, requests, items = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
for _, key in ipairs({KEYS[1], KEYS[3]}) do
  redis.call('ZCARD', key)
end
redis.call(ARGV[9] == '' and 'SCARD' or 'HLEN', KEYS[2])
redis.call('HLEN', KEYS[4])
redis.call('SCARD', KEYS[7])
redis.call('XLEN', KEYS[8])
for i = 9, 8 + ARGV[11] do
  redis.call('LLEN', KEYS[i])
end
if not redis.call('ZSCORE', KEYS[5], worker) then
  return {0, 0}
end
local stored = tonumber(redis.call('HGET', KEYS[6], 'commit:' .. worker) or -1)
if stored >= number then
  return {2, 0}
elseif stored ~= number - 1 then
  return {-1, 0}
end
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)

local ours, lost = {}, 0
if leases > 0 then
  local owners = redis.call('ZMSCORE', KEYS[3], unpack(ARGV, 15, 14 + leases))
  for i = 1, leases do
    ours[i] = owners[i] and tonumber(owners[i]) == tonumber(worker)
    lost = lost + (ours[i] and 0 or 1)
  end
end

local acks = tonumber(ARGV[12])
local simple = acks + ARGV[13]
local reply, at = {1, lost, 0, 0}, 13 + 2 * leases - simple
local fingerprints, seen, started = {}, {}, {}
for i = 1, requests do
  local fingerprint = ARGV[at + 2 * i]
  local mark = fingerprint:byte(1)
  if mark == 33 then -- '!'
    seen[fingerprint] = redis.call('SISMEMBER', KEYS[7], fingerprint:sub(2)) == 1
  elseif mark and mark ~= 35 then -- '#'
    fingerprints[#fingerprints + 1] = fingerprint
  end
end
local buckets, places, bucket_of = 0, at + 2 * requests + 3 * items, {}
if #fingerprints > 0 and ARGV[9] == '' then
  local known = redis.call('SMISMEMBER', KEYS[2], unpack(fingerprints))
  for i, fingerprint in ipairs(fingerprints) do
    seen[fingerprint] = known[i] == 1
  end
elseif ARGV[9] ~= '' then
  -- CompactDupeFilter, see buckets.py: a bucket that is not split yet stands for two.
  local shape = redis.call('HMGET', KEYS[2], 'epoch', 'buckets', 'count')
  buckets = tonumber(shape[2] or 0)
  reply[3], reply[4] = buckets, tonumber(shape[3] or 0)
  local level = tonumber(ARGV[10])
  if ARGV[places + 2] then
    if not shape[1] then
      redis.call('HDEL', KEYS[6], '') -- a new set is small: above maxmemory too
      shape[1], buckets = format('%.0f', now), 1
      redis.call('HSET', KEYS[2], 'epoch', shape[1], 'buckets', 1, 'count', 0)
    end
    if shape[1] ~= ARGV[9] or buckets < level or buckets >= 2 * level then
      return {4, shape[1], buckets, tonumber(shape[3] or 0)}
    end
  end
  for i = places + 2, #ARGV do
    local fingerprint, bucket = ARGV[i]:match('^(%S+) (%d+)$')
    local at_key = 9 + ARGV[11] + 2 * (i - places - 2)
    local key = KEYS[tonumber(bucket) < buckets and at_key or at_key + 1]
    bucket_of[fingerprint] = key
    if seen[fingerprint] == nil then
      seen[fingerprint] = redis.call('SISMEMBER', key, fingerprint) == 1
    end
  end
end
local fresh, members, new = {}, {}, {}
for i = 1, requests do
  local fingerprint = ARGV[at + 2 * i]
  local mark = fingerprint:byte(1)
  if mark == 35 then
    if ours[tonumber(fingerprint:sub(2))] then
      fresh[#fresh + 1] = i
    end
  elseif seen[fingerprint] then
    reply[#reply + 1] = i - 1
  else
    fresh[#fresh + 1] = i
    if mark then
      seen[fingerprint] = true
      if mark == 33 then
        fingerprint = fingerprint:sub(2)
        started[#started + 1] = fingerprint
        seen[fingerprint] = true
      end
      new[#new + 1] = fingerprint
    end
  end
end

local function finish(verdicts)
  local done = {}
  for i = 1, leases do
    local id = ARGV[14 + i]
    local verdict = i <= acks and '+' or i <= simple and '=' or ARGV[14 + leases + i - simple]
    if ours[i] and verdict ~= '-' and (not verdicts or verdict == verdicts) then
      done[#done + 1] = id
      local entry = verdict ~= '+' and verdict ~= '=' and redis.call('HGET', KEYS[4], id)
      if entry then
        local deaths, from = entry:match('^%S+ (%d+) %S+ ()')
        local seed = entry:byte(from) == 0
        redis.call('XADD', KEYS[8], 'MAXLEN', ARGV[5], '*',
          'payload', entry:sub(seed and from + 1 or from), 'reason', verdict,
          'worker', ARGV[4], 'deliveries', deaths + 1,
          'time', format('%.0f', now),
          'kind', seed and 'seed' or 'request')
      end
    end
  end
  if #done > 0 then
    redis.call('HINCRBY', KEYS[6], 'pages', #done)
    redis.call('HDEL', KEYS[4], unpack(done))
    redis.call('ZREM', KEYS[3], unpack(done))
  end
end

if #fresh > 0 or items > 0 then
  -- An order id never comes again, also when Redis goes back to older data: it is made
  -- of the time (1024 ids a ms since 2025), and written as a value, not as a difference,
  -- so that a torn file that is played twice does no harm.
  local order = tonumber(redis.call('HGET', KEYS[6], 'order') or 0)
  order = math.max(order, (now - 1735689600000) * 1024)
  -- Redis looks at its memory at the first write of a script only.
  local first = redis.pcall('HSET', KEYS[6], 'order', format('%.0f', order + #fresh))
  if type(first) == 'table' and first.err then
    if not first.err:find('OOM', 1, true) then
      return redis.error_reply(first.err)
    end
    redis.call('HDEL', KEYS[6], '')
    finish('=')
    return {3, lost}
  end
  local scores = {}
  if ARGV[14]:find(' ', 1, true) then
    for score in ARGV[14]:gmatch('%S+') do
      scores[#scores + 1] = score
    end
  end
  for i, n in ipairs(fresh) do
    local id = ARGV[3] == '1' and 9007199254740991 - order - i or order + i
    members[2 * i - 1] = scores[n] or ARGV[14]
    members[2 * i] = format('%016x', id) .. ARGV[at + 1 + 2 * n]
  end
else
  redis.call('HDEL', KEYS[6], '') -- acks go on above maxmemory
end
if #members > 0 then
  redis.call('ZADD', KEYS[1], unpack(members))
end
if #new > 0 and ARGV[9] == '' then
  redis.call('SADD', KEYS[2], unpack(new))
elseif #new > 0 then
  local added = 0
  for _, fingerprint in ipairs(new) do
    added = added + redis.call('SADD', bucket_of[fingerprint], fingerprint)
  end
  reply[4] = redis.call('HINCRBY', KEYS[2], 'count', added)
end
if #started > 0 then
  redis.call('SADD', KEYS[7], unpack(started))
end
at = at + 2 * requests - 1
for i = 1, items do
  local lease = tonumber(ARGV[at + 1 + 3 * i])
  if lease == 0 or ours[lease] then
    redis.call('RPUSH', KEYS[tonumber(ARGV[at + 3 * i])], ARGV[at + 2 + 3 * i])
  end
end
redis.call('HSET', KEYS[6], 'commit:' .. worker, ARGV[2],
  'active', format('%.0f', now))
finish()
return reply
