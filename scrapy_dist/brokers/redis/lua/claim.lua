-- Filter requests that stay in this worker, on behalf of the leases they belong to.
--
-- A claim is kept with its leases. Whoever is handed such a lease again, after a death,
-- finds the fingerprint seen but claimed by the lease, and may follow it once more. A
-- worker that has lost such a lease, and may not know it yet, marks nothing as seen; nor does
-- a request whose leases are all of tasks that were cancelled. One without a fingerprint is
-- only dropped then.
--
-- KEYS  dupefilter (set, or hash: see buckets.py)  leased (hash)  started (set)
--       leases (zset)  tasks (hash)  tasks_ended (zset)
--       buckets*: of each request the one of its fingerprint, and the one
--       that this is to be split from (set)
-- ARGV  worker: its number  epoch: of the buckets ('': dupefilter is a set)
--       known: how many buckets the worker knows of
--       claims*: of each request: fingerprint ('!…' = a start request; '' = none), number of its
--       bucket, number of its leases, their order ids
-- Reply for each request 1 (crawl it), 0 (a duplicate) or 2 (dropped, as its task was
--       cancelled); or -1 if the buckets are others, then epoch, buckets and fingerprints in them
-- Cost  O(ARGV)
-- @use buckets
-- @use entry
-- @use tasks
local is_compact = epoch ~= ''
redis.call(is_compact and 'HLEN' or 'SCARD', dupefilter)
redis.call('HDEL', leased, '') -- runs above maxmemory too: a page waits for it
local now_epoch, split, seen_count
if is_compact then
  now_epoch, split, seen_count = read_shape()
  if now_epoch ~= epoch or not are_named(split, tonumber(known)) then
    return {-1, now_epoch, split, seen_count}
  end
end
local reply, at, at_key = {}, claims_at + 1, buckets_at + 1
while at < #ARGV do
  local fingerprint, lease_count = ARGV[at], tonumber(ARGV[at + 2])
  local is_start = fingerprint:byte(1) == 33 -- '!'
  local plain = is_start and fingerprint:sub(2) or fingerprint
  local set = is_start and started or dupefilter
  if is_compact and not is_start then
    set = KEYS[tonumber(ARGV[at + 1]) < split and at_key or at_key + 1]
  end
  local is_filtered = plain ~= ''
  local claim = lease_count > 0 and redis.sha1hex(plain):sub(1, 16)
  local seen = is_filtered and redis.call('SISMEMBER', set, plain) == 1
  local open, ours = not seen, true
  for i = at + 3, at + 2 + lease_count do
    local owner = redis.call('ZSCORE', leases, ARGV[i])
    ours = ours and owner and tonumber(owner) == tonumber(worker)
  end
  local cancelled = 0
  for i = at + 3, ours and at + 2 + lease_count or 0 do
    local entry = redis.call('HGET', leased, ARGV[i])
    local task = entry and task_of(select(5, read_entry(entry, ARGV[i])))
    if task and task_book().is_cancelled(task) then
      cancelled = cancelled + 1
    end
  end
  local is_dropped = lease_count > 0 and cancelled == lease_count
  local is_noted = is_filtered and ours and not is_dropped
  for i = at + 3, is_noted and at + 2 + lease_count or 0 do
    local entry = redis.call('HGET', leased, ARGV[i])
    if entry then
      local slot, deaths, claims, rank, payload = read_entry(entry, ARGV[i])
      if claims:find(claim, 1, true) then
        open = true
      elseif not seen then
        redis.call('HSET', leased, ARGV[i],
          slot .. ' ' .. deaths .. ' ' .. claims .. claim .. ' ' .. rank .. payload)
      end
    end
  end
  if is_noted and not seen then
    redis.call('SADD', set, plain)
    if is_compact and not is_start then
      seen_count = seen_count + 1
      redis.call('HSET', dupefilter, 'count', seen_count)
    end
  end
  reply[#reply + 1] = is_dropped and 2 or (open or not ours) and 1 or 0
  at, at_key = at + 3 + lease_count, at_key + 2
end
return reply
