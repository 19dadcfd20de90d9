-- Putting requests among the pending ones.
--
-- S:slots has each slot with pending requests, by the ms when it was handed out last or came
-- in: the longest ago is the next. In a polite crawl it is when the slot may be asked again,
-- or who has it: see lib/seats.lua. Slots come first and go last: one without requests does
-- no harm, requests without a slot wait until lease.lua finds no other.
-- @use slot_clock
-- @needs requests slots resting state

-- *some* slots may be asked *now*, on the clock of slots, or when their rest is over. *rest*:
-- how many are in S:resting, where the script deletes these later.
-- @here
local function add_slots(some, now, rest)
  local ready, found = string.format('%.0f', now), {}
  local times = rest > 0 and redis.call('ZMSCORE', resting, unpack(some)) or {}
  for i = 1, #some do
    found[2 * i - 1], found[2 * i] = times[i] or ready, some[i]
  end
  redis.call('ZADD', slots, 'NX', unpack(found))
end

-- *members*: slot and member of each (<= 4,000 in all).
local function put_pending(members)
  if #members == 0 then
    return
  end
  local known, some, now, rest = {}, {}, (slot_clock()), redis.call('ZCARD', resting)
  for i = 1, #members, 2 do
    local slot = members[i]
    if not known[slot] then
      known[slot] = true
      some[#some + 1] = slot
    end
  end
  add_slots(some, now, rest)
  redis.call('ZADD', requests, unpack(members))
  if rest > 0 then
    redis.call('ZREM', resting, unpack(some))
  end
end
