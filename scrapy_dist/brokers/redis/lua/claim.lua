-- Filter requests that stay in this worker, on behalf of the leases they belong to.
--
-- A claim is kept with its leases. Whoever is handed such a lease again, after a death,
-- finds the fingerprint seen but claimed by the lease, and may follow it once more. A
-- worker that has lost such a lease, and may not know it yet, marks nothing as seen.
--
-- KEYS  1 dupefilter (set, or hash: see buckets.py)  2 leased (hash)  3 started (set)
--       4 leases (zset), then for each request the bucket of its fingerprint, and the
--       bucket that this one is to be split from (set)
-- ARGV  1 worker number  2 epoch of the buckets ('': dupefilter is a set)  3 how many are
--       known, then for each request: fingerprint ('!…' = a start request), number of
--       its bucket, number of its leases, their order ids
-- Reply for each request 1 (crawl it) or 0 (a duplicate); or -1 if the buckets are
--       others, then epoch, buckets and fingerprints in them
-- Cost  O(ARGV)
local compact = ARGV[2] ~= ''
redis.call(compact and 'HLEN' or 'SCARD', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('SCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too: a page waits for it
-- The largest power of 2 that is not above *n*.
local function level(n)
  local power = 1
  while 2 * power <= n do
    power = 2 * power
  end
  return power
end
local shape, known = {}, tonumber(ARGV[3])
if compact then
  shape = redis.call('HMGET', KEYS[1], 'epoch', 'buckets', 'count')
  if not shape[1] then
    local now = redis.call('TIME')
    shape = {string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)), '1', '0'}
    redis.call('HSET', KEYS[1], 'epoch', shape[1], 'buckets', 1, 'count', 0)
  end
  local buckets = tonumber(shape[2])
  if shape[1] ~= ARGV[2] or buckets < known or buckets >= 2 * level(known) then
    return {-1, shape[1], buckets, tonumber(shape[3])}
  end
end
local reply, at, at_key = {}, 4, 5
while at < #ARGV do
  local fingerprint, leases = ARGV[at], tonumber(ARGV[at + 2])
  local is_start = fingerprint:byte(1) == 33 -- '!'
  local plain = is_start and fingerprint:sub(2) or fingerprint
  local set = KEYS[is_start and 3 or 1]
  if compact and not is_start then
    local is_split = tonumber(ARGV[at + 1]) < tonumber(shape[2])
    set = KEYS[is_split and at_key or at_key + 1]
  end
  local claim = leases > 0 and redis.sha1hex(plain):sub(1, 16)
  local seen = redis.call('SISMEMBER', set, plain) == 1
  local open = not seen
  local ours = true
  for i = at + 3, at + 2 + leases do
    local owner = redis.call('ZSCORE', KEYS[4], ARGV[i])
    ours = ours and owner and tonumber(owner) == tonumber(ARGV[1])
  end
  for i = at + 3, ours and at + 2 + leases or 0 do
    local entry = redis.call('HGET', KEYS[2], ARGV[i])
    if entry then
      if entry:byte() ~= 32 then -- without a head, see lease.lua
        entry = ' 0 0 - ' .. entry
      end
      local head, claims, rest = entry:match('^( %S+ %d+ )(%S+)()')
      if claims:find(claim, 1, true) then
        open = true
      elseif not seen then
        redis.call('HSET', KEYS[2], ARGV[i], head .. claims .. claim .. entry:sub(rest))
      end
    end
  end
  if ours and not seen then
    redis.call('SADD', set, plain)
    if compact and not is_start then
      shape[3] = shape[3] + 1
      redis.call('HSET', KEYS[1], 'count', shape[3])
    end
  end
  reply[#reply + 1] = (open or not ours) and 1 or 0
  at, at_key = at + 3 + leases, at_key + 2
end
return reply
