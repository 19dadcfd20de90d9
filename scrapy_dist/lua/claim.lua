-- Filter requests that stay in this worker, on behalf of the leases they belong to.
--
-- A claim is kept with its leases. Whoever is handed such a lease again, after a death,
-- finds the fingerprint seen but claimed by the lease, and may follow it once more. A
-- worker that has lost such a lease, and may not know it yet, marks nothing as seen.
--
-- KEYS  1 dupefilter (set)  2 leased (hash)  3 started (set)  4 leases (zset)
-- ARGV  1 worker number, then for each request: fingerprint ('!…' = a start request),
--       number of its leases, their order ids
-- Reply for each request 1 (crawl it) or 0 (a duplicate)
-- Cost  O(ARGV)
redis.call('SCARD', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('SCARD', KEYS[3])
redis.call('ZCARD', KEYS[4])
redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too: a page waits for it
local reply, at = {}, 2
while at < #ARGV do
  local set, fingerprint, leases = KEYS[1], ARGV[at], tonumber(ARGV[at + 1])
  if fingerprint:byte(1) == 33 then -- '!'
    set, fingerprint = KEYS[3], fingerprint:sub(2)
  end
  local claim = redis.sha1hex(fingerprint):sub(1, 16)
  local seen = redis.call('SISMEMBER', set, fingerprint) == 1
  local open = not seen
  local ours = true
  for i = at + 2, at + 1 + leases do
    local owner = redis.call('ZSCORE', KEYS[4], ARGV[i])
    ours = ours and owner and tonumber(owner) == tonumber(ARGV[1])
  end
  for i = at + 2, ours and at + 1 + leases or 0 do
    local entry = redis.call('HGET', KEYS[2], ARGV[i])
    if entry then
      local head, claims, rest = entry:match('^(%S+ %d+ )(%S+)()')
      if claims:find(claim, 1, true) then
        open = true
      elseif not seen then
        redis.call('HSET', KEYS[2], ARGV[i], head .. claims .. claim .. entry:sub(rest))
      end
    end
  end
  if ours and not seen then
    redis.call('SADD', set, fingerprint)
  end
  reply[#reply + 1] = (open or not ours) and 1 or 0
  at = at + 2 + leases
end
return reply
