-- Putting requests among the pending ones.
--
-- S:slots has each slot with pending requests, by the ms when it was handed out last or came
-- in: the longest ago is the next. Slots come first and go last: one without requests does
-- no harm, requests without a slot wait until lease.lua finds no other.
-- @use clock
-- @needs requests slots

-- *members*: slot and member of each (<= 4,000 in all).
local function put_pending(members)
  if #members == 0 then
    return
  end
  local now, known, found = now_ms(), {}, {}
  for i = 1, #members, 2 do
    local slot = members[i]
    if not known[slot] then
      known[slot] = true
      found[#found + 1], found[#found + 2] = now, slot
    end
  end
  redis.call('ZADD', slots, 'NX', unpack(found))
  redis.call('ZADD', requests, unpack(members))
end
