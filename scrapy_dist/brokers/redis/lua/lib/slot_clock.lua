-- The clock of slots: ms. It never goes back, and of a leap of Redis' clock it counts 10 s at
-- the most, so that no delay is cut short. It is Redis' clock and a shift, in S:state.
-- @use clock
-- @needs state

-- *wall*, by Redis' clock, on the clock of slots; *kept*: what S:state has of 'slots:seen'
-- and 'slots:shift'. And the shift from then on.
local function on_slot_clock(wall, kept)
  local shift = tonumber(kept[2] or nil) or 0
  local now = wall + shift
  local seen = tonumber(kept[1] or nil) or now
  local moved = math.min(math.max(now, seen), seen + 10000)
  return moved, shift + moved - now
end

-- Now on the clock of slots, and on Redis' clock; the third is stored by `keep_slot_clock`.
local function slot_clock()
  local wall = now_ms()
  local now, shift = on_slot_clock(wall, redis.call('HMGET', state, 'slots:seen', 'slots:shift'))
  return now, wall, {'slots:seen', now, 'slots:shift', shift}
end

-- Store what `slot_clock` has found.
local function keep_slot_clock(found)
  redis.call('HSET', state, found[1], string.format('%.0f', found[2]),
    found[3], string.format('%.0f', found[4]))
end
