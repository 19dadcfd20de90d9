-- A reader of items goes: what it has not acknowledged goes back to the others.
--
-- KEYS  items (list)  taken (list)
-- ARGV  reader: its number  keep: items at the front of its list that stay there: nobody
--       knows whether they have been dealt with  most: items (<= 100)
-- Reply items that are left to give back, or -1: another reader has the list
-- Cost  O(items per call)
-- @use reader
local owner, _, runs = read_mark(redis.call('LINDEX', taken, 0))
if owner ~= reader then
  return -1
end
redis.call('LTRIM', taken, 0, -1) -- runs above maxmemory too
local held = redis.call('LLEN', taken) - 1
local left = math.max(0, held - keep)
local moves = math.min(left, tonumber(most))
-- The names go before the items: what stays has the names that it had.
local surplus = count_names(runs) - (held - moves)
for i = #runs, 1, -1 do
  local less = math.max(0, math.min(runs[i][3], surplus))
  runs[i][3], surplus = runs[i][3] - less, surplus - less
end
redis.call('LSET', taken, 0, to_mark(reader, 0, runs)) -- not seen: it is free
for _ = 1, moves do
  redis.call('LMOVE', taken, items, 'RIGHT', 'LEFT')
end
left = left - moves
if left == 0 and held == moves then
  redis.call('LTRIM', taken, 1, 0)
end
return left
