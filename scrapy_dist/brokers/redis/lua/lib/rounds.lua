-- What a worker asks for may be carried out long after it has given up on the reply: its
-- connection was cut, and what was sent came all the same. It would give back a seat that the
-- worker has got again. So the worker counts a round more when a reply is lost, and tells it
-- when it asks which seats it has, see held_seats.lua; then what is of a round before is late.
-- @needs state worker round

local function is_late()
  return tonumber(redis.call('HGET', state, 'round:' .. worker) or 0) > tonumber(round)
end
