-- Delete parts of a frontier, or all of it, in one moment; their memory is freed later.
--
-- KEYS  workers (zset)  dupefilter (set, or hash: see buckets.py)  state (hash)
--       slots (zset)  resting (zset)  parts*: what to delete (any)
-- ARGV  ttl_ms: of silence after which a worker is dead, if no worker has told
--       force: '1': also while workers live  seen: '1': delete the dupefilter too
--       rests: '1': who has a slot, and until when one rests, stays: see lib/seats.lua
-- Reply workers alive, 1 if it was done (0: workers live), when
-- Cost  O(log(workers) + slots that rest) here, and O(entries) in a thread of Redis
-- @use slot_clock
-- @use owner
-- @use alive
-- @use fingerprints
local call = redis.call
local at, now = slot_clock()
local alive = alive_workers(now)
if alive > 0 and force ~= '1' then
  return {alive, 0, now}
end
call('ZCARD', resting)
call('HDEL', state, '') -- runs above maxmemory too
if seen == '1' then
  delete_fingerprints()
end
local owned = {}
if rests == '1' then
  -- Sites do not know that their requests are gone.
  local found = call('ZRANGEBYSCORE', slots, string.format('(%.0f', at), '+inf', 'WITHSCORES')
  local later = {}
  for i = 1, #found, 2 do
    local name, score = found[i], found[i + 1]
    if tonumber(score) >= mark_of(0) then
      owned[#owned + 1], owned[#owned + 2] = score, name
    elseif not name:find('.', 1, true) then
      later[#later + 1], later[#later + 2] = score, name
    end
  end
  for i = 1, #later, 1000 do
    call('ZADD', resting, unpack(later, i, math.min(i + 999, #later)))
  end
end
if #KEYS > parts_at then
  call('UNLINK', unpack(KEYS, parts_at + 1))
end
for i = 1, #owned, 1000 do
  call('ZADD', slots, unpack(owned, i, math.min(i + 999, #owned)))
end
return {alive, 1, now}
