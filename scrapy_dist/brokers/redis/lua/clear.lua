-- Delete parts of a frontier, or all of it, in one moment; their memory is freed later.
--
-- KEYS  workers (zset)  dupefilter (set, or hash: see buckets.py)  state (hash)
--       parts*: what to delete (any)
-- ARGV  ttl_ms: of silence after which a worker is dead, if no worker has told
--       force: '1': also while workers live  seen: '1': delete the dupefilter too
-- Reply workers alive, 1 if it was done (0: workers live), when
-- Cost  O(log(workers)) here, and O(entries) in a thread of Redis
-- @use clock
-- @use alive
-- @use fingerprints
local now = now_ms()
local alive = alive_workers(now)
if alive > 0 and force ~= '1' then
  return {alive, 0, now}
end
if seen == '1' then
  delete_fingerprints()
end
if #KEYS > parts_at then
  redis.call('UNLINK', unpack(KEYS, parts_at + 1))
end
return {alive, 1, now}
