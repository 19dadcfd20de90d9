-- A reader of items goes: what it has not acknowledged goes back to the others.
--
-- KEYS  1 items (list)  2 the reader's list: its mark, then what it has not acknowledged
-- ARGV  1 mark of the reader  2 most items (<= 100)
-- Reply items that are left in the reader's list, or -1: another reader has it
-- Cost  O(items per call)
redis.call('LLEN', KEYS[1])
if redis.call('LINDEX', KEYS[2], 0) ~= ARGV[1] then
  return -1
end
redis.call('LTRIM', KEYS[2], 0, -1) -- runs above maxmemory too
local left = redis.call('LLEN', KEYS[2]) - 1
for _ = 1, math.min(left, tonumber(ARGV[2])) do
  redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT')
  left = left - 1
end
if left == 0 then
  redis.call('LREM', KEYS[2], 1, ARGV[1])
end
return left
