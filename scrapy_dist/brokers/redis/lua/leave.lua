-- A worker leaves. The last one out of a finished crawl writes its record, and deletes the
-- frontier, or, if it is to be kept, marks it finished.
--
-- KEYS  workers (zset)  state (hash)  requests (zset)  suspects (zset)  leases (zset)
--       leased (hash)  dupefilter (set or hash)  stats (hash)  started (set)
--       control (hash)  failed (stream)  history (stream)  slots (zset)
--       resting (zset)  politeness (hash)  tasks (hash)  results (hash)
--       tasks_ended (zset)
--       seed_keys*: (list, set or zset)
-- ARGV  worker: its number  finished: '1': if nothing is left, the crawl has finished; '0':
--       it goes on all the same; '': as the others see it
--       present_ms: of silence after which another worker is not counted as present
--       persist: '1': keep a finished crawl  reason: of the closing
--       keep_ms: for which tasks are kept
--       delay_ms: between two starts in a slot  places: of a slot
-- Reply outcome (0 something is left, or others are here, or a finished crawl is kept;
--       1 the frontier was deleted; 2 nothing is left, and the frontier is kept all the
--       same), fingerprints known
-- Cost  O(log workers + log leases + keys of seeds + seats)
-- @use kinds
-- @use workers
-- @use crawl
-- @use history
-- @use keeping
-- @use slot_clock
-- @use seats
local slots_now, now, clock = slot_clock()
local seen = count_fingerprints()
local left = count_left()
redis.call(kind_of(dupefilter) == 'hash' and 'HLEN' or 'SCARD', dupefilter)
for i = seed_keys_at + 1, #KEYS do
  left = left + count_seeds(KEYS[i])
end
redis.call('HDEL', state, 'commit:' .. worker)
local freed = free_seats(worker, slots_now, clock, 100)
if redis.call('ZCOUNT', leases, worker, worker) > 0 or freed == 100 then
  -- It does not know of these leases. Whoever reaps finds a worker long dead.
  redis.call('ZADD', workers, 1, worker)
  return {0, seen}
end
forget_worker(worker)
left = left + busy_workers()
local present = redis.call('ZCOUNT', workers, '(' .. now - present_ms, '+inf')
if left > 0 then
  return {0, seen}
elseif finished ~= '1' then
  if finished == '0' then
    redis.call('HDEL', state, 'finished')
  end
  return {present == 0 and 2 or 0, seen}
end
local active = tonumber(redis.call('HGET', state, 'active') or nil) or 0
local ended = math.max(now, active)
if present > 0 then
  redis.call('HSET', state, 'finished', ended)
  return {0, seen}
end
-- Not once more if a reply was lost.
local is_new = (tonumber(redis.call('HGET', state, 'recorded') or nil) or -1) < active
if is_new then
  write_record(now, reason)
end
keep_tasks(keep_ms)
if persist == '1' then
  redis.call('UNLINK', slots, resting, politeness) -- nothing is left in them
  if is_new then
    redis.call('HSET', state, 'finished', ended, 'recorded', ended)
  end
  return {0, seen}
end
delete_crawl()
return {1, seen}
