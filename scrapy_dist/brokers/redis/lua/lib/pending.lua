-- Putting requests among the pending ones.
--
-- S:slots has each slot with pending requests, by the ms when it was handed out last or came
-- in: the longest ago is the next. In a polite crawl it is when the slot may be asked again,
-- or who has it: see lib/seats.lua. Slots come first and go last: one without requests does
-- no harm, requests without a slot wait until lease.lua finds no other.
-- @use slot_clock
-- @needs requests slots resting state

-- *found*: slots, each behind a free place, which gets when it may be asked: *now*, on the
-- clock of slots, or later.
local function add_slots(found, now)
  local ready, rested = string.format('%.0f', now), {}
  if redis.call('ZCARD', resting) > 0 then
    for i = 2, #found, 2 do
      rested[i / 2] = found[i]
    end
    for i, left in ipairs(redis.call('ZMSCORE', resting, unpack(rested))) do
      found[2 * i - 1] = left or ready
    end
  else
    for i = 1, #found, 2 do
      found[i] = ready
    end
  end
  redis.call('ZADD', slots, 'NX', unpack(found))
  return rested
end

-- *members*: slot and member of each (<= 4,000 in all).
local function put_pending(members)
  if #members == 0 then
    return
  end
  local known, found = {}, {}
  for i = 1, #members, 2 do
    local slot = members[i]
    if not known[slot] then
      known[slot] = true
      found[#found + 1], found[#found + 2] = 0, slot
    end
  end
  local rested = add_slots(found, (slot_clock()))
  redis.call('ZADD', requests, unpack(members))
  if #rested > 0 then
    redis.call('ZREM', resting, unpack(rested))
  end
end
