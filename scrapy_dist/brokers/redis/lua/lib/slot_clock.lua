-- The clock of slots: ms. It never goes back, and of a leap of Redis' clock it counts 10 s at
-- the most, so that no delay is cut short. It is Redis' clock and a shift, in S:state.
-- @use clock
-- @needs state

-- Now on the clock of slots, and on Redis' clock; the third is stored by `keep_slot_clock`.
local function slot_clock()
  local wall, kept = now_ms(), redis.call('HMGET', state, 'slots:seen', 'slots:shift')
  local shift = tonumber(kept[2] or nil) or 0
  local now = wall + shift
  local seen = tonumber(kept[1] or nil) or now
  local moved = math.min(math.max(now, seen), seen + 10000)
  return moved, wall, {'slots:seen', moved, 'slots:shift', shift + moved - now}
end

-- Store what `slot_clock` has found.
local function keep_slot_clock(found)
  redis.call('HSET', state, found[1], string.format('%.0f', found[2]),
    found[3], string.format('%.0f', found[4]))
end
