-- A worker is to ask a slot outside of any lease (robots.txt, media, a redirect): it becomes
-- its owner, now or later. Who waits marks the slot as wanted, so that its owner lets it go
-- and nobody else gets it.
--
-- KEYS  workers (zset)  state (hash)  slots (zset)  resting (zset)  politeness (hash)
-- ARGV  worker: its number  round: that it is in, see lib/rounds.lua
--       delay_ms: between two starts in a slot  places: of a slot
--       most_seats: of a slot without delay  slot: its number
-- Reply outcome (1 it is the owner now, 2 it was before, 0 not now, -1 unknown worker), ms to
--       wait (-1: another one has it), delay in ms, places of its seat
-- Cost  O(log(slots))
-- @use rounds
-- @use slot_clock
-- @use seats
local now, _, clock = slot_clock()
local call, own = redis.call, mark_of(worker)
if tonumber(call('ZSCORE', workers, worker) or 0) == 0 or is_late() then
  return {-1, -1, 0, 0}
end
local found = call('HMGET', politeness, slot, 'wanted:' .. slot)
local delay, count, seats = rules_of(found[1], tonumber(most_seats))
local gone = {}
count = places_of(slot, delay, count, seats, 0, gone)
local mark = call('ZSCORE', slots, slot)
if tonumber(mark or 0) == own then
  if #gone > 0 then
    call('HDEL', state, '') -- runs above maxmemory too
    call('ZREM', slots, unpack(gone))
  end
  return {2, 0, delay, count}
end
local ready = tonumber(mark or call('ZSCORE', resting, slot) or 0)
local who, since = (found[2] or ''):match('^(%d+) (%d+)$')
local is_mine = not who or who == worker or now - since >= 2000
redis.call('HDEL', state, '') -- runs above maxmemory too
keep_slot_clock(clock)
if is_mine and ready <= now then
  call('ZADD', slots, string.format('%.0f', own), slot)
  call('ZREM', resting, slot, 'wanted:' .. slot)
  call('HDEL', politeness, 'wanted:' .. slot)
  if #gone > 0 then
    call('ZREM', slots, unpack(gone))
  end
  return {1, 0, delay, count}
end
if is_mine then
  -- Who does not come back is forgotten with what has rested: see yield.lua.
  call('ZADD', resting, string.format('%.0f', now + 2000), 'wanted:' .. slot)
  call('HSET', politeness, 'wanted:' .. slot, worker .. string.format(' %.0f', now))
end
local is_taken = ready >= mark_of(0) or not is_mine
return {0, is_taken and -1 or ready - now, delay, count}
