-- Who may ask a slot, in a polite crawl.
--
-- A slot with a delay has one seat, and so one owner at a time, who spaces the starts by his
-- own clock. One without has several, which share its places: the downloads that it allows
-- at once. The first seat has the name of the slot, the others 'slot.1' and so on. In
-- S:slots a seat has the ms when it may be taken, or, while it is taken, 2^52 and the number
-- of its owner. S:politeness has 'delay places' of slots that are not as the settings say,
-- and under 'wanted:slot' who waits to visit it (see visit.lua): 'worker ms'.
-- @use owner
-- @needs politeness delay_ms places

-- Delay in ms, places and seats of a slot; *value* is what S:politeness has of it.
local function rules_of(value, most_seats)
  local delay, count
  if value then
    delay, count = value:match('^(%d+) (%d+)$')
  end
  delay, count = tonumber(delay or delay_ms), math.max(1, tonumber(count or places))
  return delay, count, delay > 0 and 1 or math.min(count, most_seats)
end

-- The places of one seat, counted from 0.
local function places_of(count, seats, seat)
  return math.floor(count / seats) + (seat < count % seats and 1 or 0)
end
