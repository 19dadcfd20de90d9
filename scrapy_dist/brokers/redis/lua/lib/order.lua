-- Order ids: 16 hex digits in front of a payload, by which requests of one score are sorted.
--
-- An order id never comes again, also when Redis goes back to older data: it is made of the
-- time (1024 ids a ms since 2025), and the counter 'order' of S:state is written as a value,
-- not as a difference, so that a torn file that is played twice does no harm.

-- The number behind which all are free; *counter* as it is stored, false if it is not.
local function order_at(counter, now)
  return math.max(tonumber(counter or 0), (now - 1735689600000) * 1024)
end

-- *newest_first* '1': later ones are smaller.
local function order_id(order, newest_first)
  return string.format('%016x', newest_first == '1' and 9007199254740991 - order or order)
end
