-- A reader of items goes: what it has not acknowledged goes back to the others.
--
-- KEYS  items (list)  taken (list)
-- ARGV  mark: of the reader  most: items (<= 100)
-- Reply items that are left in the reader's list, or -1: another reader has it
-- Cost  O(items per call)
if redis.call('LINDEX', taken, 0) ~= mark then
  return -1
end
redis.call('LTRIM', taken, 0, -1) -- runs above maxmemory too
local left = redis.call('LLEN', taken) - 1
for _ = 1, math.min(left, tonumber(most)) do
  redis.call('LMOVE', taken, items, 'RIGHT', 'LEFT')
  left = left - 1
end
if left == 0 then
  redis.call('LREM', taken, 1, mark)
end
return left
