-- Who may ask a slot, in a polite crawl.
--
-- A slot with a delay has one seat, and so one owner at a time, who spaces the starts by his
-- own clock. One without has several, which share its places: the downloads that it allows
-- at once. The first seat has the name of the slot, the others 'slot.1' and so on. In
-- S:slots a seat has the ms when it may be taken, or, while it is taken, 2^52 and the number
-- of its owner. S:politeness has 'delay places' of slots that are not as the settings say,
-- and under 'wanted:slot' who waits to visit it (see visit.lua): 'worker ms', for 2 s; then
-- S:resting, which has the same name, says that it may go.
-- @use owner
-- @use slot_clock
-- @needs slots politeness delay_ms places

-- Delay in ms, places and seats of a slot; *value* is what S:politeness has of it.
local function rules_of(value, most_seats)
  local delay, count
  if value then
    delay, count = value:match('^(%d+) (%d+)$')
  end
  delay, count = tonumber(delay or delay_ms), math.max(1, tonumber(count or places))
  return delay, count, delay > 0 and 1 or math.min(count, most_seats)
end

-- The places of one seat of *slot*, counted from 0. With a delay all are those of the first
-- one, when the others are given back; these are added to *gone*, to be removed. So, while
-- somebody may go by all places, there is no other seat that could be taken: one is opened
-- when the owner of the first one goes by the places that this one has without a delay.
local function places_of(slot, delay, count, seats, seat, gone)
  if delay > 0 then
    local names = {}
    for other = 1, 7 do
      names[other] = slot .. '.' .. other
    end
    for other, mark in ipairs(redis.call('ZMSCORE', slots, unpack(names))) do
      if mark and tonumber(mark) >= mark_of(0) then
        return 1
      elseif mark then
        gone[#gone + 1] = names[other]
      end
    end
  end
  return math.floor(count / seats) + (seat < count % seats and 1 or 0)
end

-- Take the seats of *owner* away, at most *most*; they may be taken when the delay of their
-- slots is over. *now*, *clock*: see `slot_clock`. How many that were.
local function free_seats(owner, now, clock, most)
  local own = string.format('%.0f', mark_of(owner))
  local taken, back = redis.call('ZRANGEBYSCORE', slots, own, own, 'LIMIT', 0, most), {}
  for i, name in ipairs(taken) do
    local delay = rules_of(redis.call('HGET', politeness, name:match('^%d+') or name), 1)
    back[2 * i - 1], back[2 * i] = string.format('%.0f', now + delay), name
  end
  if #taken > 0 then
    keep_slot_clock(clock)
    redis.call('ZADD', slots, unpack(back))
  end
  return #taken
end
