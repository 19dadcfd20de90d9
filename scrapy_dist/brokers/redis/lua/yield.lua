-- A worker gives seats back: nothing of theirs waits in it or is being downloaded.
--
-- KEYS  requests (zset)  state (hash)  slots (zset)  resting (zset)  politeness (hash)
-- ARGV  worker: its number  round: that it is in, see lib/rounds.lua
--       places: of a slot that has no rules of its own
--       seats*: of each (<= 100): its name, ms until it may be taken, 'delay places' of the
--       slot from now on ('': as before; 0 places: as many as before)
-- Reply seats given back
-- Cost  O(seats * log(slots))
-- @use rounds
-- @use slot_clock
-- @use owner
local now, _, clock = slot_clock()
if seats_count == 0 or is_late() then
  return 0
end
local names = {}
for i = seats_at + 1, #ARGV, 3 do
  names[#names + 1] = ARGV[i]
end
local own, owners = mark_of(worker), redis.call('ZMSCORE', slots, unpack(names))
redis.call('HDEL', state, '') -- runs above maxmemory too
keep_slot_clock(clock)
local back, keep, rest, gone, given = {}, {}, {}, {}, 0
for i, name in ipairs(names) do
  if tonumber(owners[i] or 0) == own then
    local ms, value = ARGV[seats_at + 3 * i - 1], ARGV[seats_at + 3 * i]
    local slot, ready = name:match('^%d+') or name, string.format('%.0f', now + ms)
    given = given + 1
    if redis.call('ZCOUNT', requests, slot, slot) > 0 then
      back[#back + 1], back[#back + 2] = ready, name
    else
      gone[#gone + 1] = name
      if slot == name and tonumber(ms) > 0 then
        rest[#rest + 1], rest[#rest + 2] = ready, slot
      end
    end
    if value:find(' 0$') then
      local count = (redis.call('HGET', politeness, slot) or ''):match(' (%d+)$') or places
      value = value:gsub('0$', count)
    end
    if value ~= '' then
      keep[#keep + 1], keep[#keep + 2] = slot, value
    end
  end
end
if #keep > 0 then
  redis.call('HSET', politeness, unpack(keep))
end
if #back > 0 then
  redis.call('ZADD', slots, unpack(back))
end
if #rest > 0 then
  redis.call('ZADD', resting, unpack(rest))
end
if #gone > 0 then
  redis.call('ZREM', slots, unpack(gone))
end
-- Those that have rested enough, and visitors that have not come back, some at a time.
local rested = redis.call('ZRANGEBYSCORE', resting, '-inf', string.format('%.0f', now),
  'LIMIT', 0, 200)
local lost = {}
for _, name in ipairs(rested) do
  if name:sub(1, 7) == 'wanted:' then
    lost[#lost + 1] = name
  end
end
if #lost > 0 then
  redis.call('HDEL', politeness, unpack(lost))
end
if #rested > 0 then
  redis.call('ZREM', resting, unpack(rested))
end
return given
