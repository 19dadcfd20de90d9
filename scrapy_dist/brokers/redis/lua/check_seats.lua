-- Find seats that an unknown worker has; let them be taken when their delays are over.
--
-- KEYS  slots (zset)  workers (zset)  state (hash)  politeness (hash)
-- ARGV  mend: '1' or '0'  at: taken seats to leave out  most: seats to look at (<= 100)
--       delay_ms: between two starts in a slot  places: of a slot
-- Reply how many to leave out next (-1: there are no more), then for each finding: its name,
--       that worker
-- Cost  O(log(slots) + at + seats looked at)
-- @use slot_clock
-- @use seats
local now, _, clock = slot_clock()
local found = redis.call('ZRANGEBYSCORE', slots, string.format('%.0f', mark_of(0)), '+inf',
  'WITHSCORES', 'LIMIT', at, most)
local reply, back = {#found < 2 * most and -1 or at + most}, {}
for i = 1, #found, 2 do
  local owner = string.format('%.0f', found[i + 1] - mark_of(0))
  if not redis.call('ZSCORE', workers, owner) then
    reply[#reply + 1], reply[#reply + 2] = found[i], owner
    local slot = found[i]:match('^%d+') or found[i]
    local delay = rules_of(redis.call('HGET', politeness, slot), 1)
    back[#back + 1], back[#back + 2] = string.format('%.0f', now + delay), found[i]
  end
end
if mend == '1' and #back > 0 then
  redis.call('HDEL', state, '') -- runs above maxmemory too
  keep_slot_clock(clock)
  redis.call('ZADD', slots, unpack(back))
  if reply[1] >= 0 then
    reply[1] = reply[1] - #back / 2
  end
end
return reply
