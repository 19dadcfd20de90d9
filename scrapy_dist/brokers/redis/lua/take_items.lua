-- Move items to a reader's own list, and drop those there that it is done with.
--
-- KEYS  1 items (list)  2 the reader's list: its mark, then what it has not acknowledged
-- ARGV  1 mark of the reader: 'reader:' and a random number  2 '1': take the list over
--       from an earlier reader  3 items acknowledged, the oldest ones  4 items in its
--       list that the reader knows of, with those  5 most items in the reply (<= 100)
--       6 bytes after which no further item is taken
-- Reply outcome (1 done, 0 another reader has the list, -1 fewer items there than the
--       reader knows: Redis was rolled back), then items
-- Cost  O(items per call)
redis.call('LLEN', KEYS[1])
local first = redis.call('LINDEX', KEYS[2], 0)
if ARGV[2] ~= '1' and first ~= ARGV[1] then
  return {0}
end
redis.call('LTRIM', KEYS[2], 0, -1) -- runs above maxmemory too: to read is to drain it
if first == false then
  redis.call('RPUSH', KEYS[2], ARGV[1])
elseif first:sub(1, 7) == 'reader:' then
  redis.call('LSET', KEYS[2], 0, ARGV[1])
else
  redis.call('LPUSH', KEYS[2], ARGV[1])
end
local done, known = tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('LLEN', KEYS[2]) - 1 < known then
  return {-1}
end
if done > 0 then
  -- By value, not by number: a torn file may be played twice.
  for _, item in ipairs(redis.call('LRANGE', KEYS[2], 1, done)) do
    redis.call('LREM', KEYS[2], 1, item)
  end
end
local reply, size = {1}, 0
local want, most, at = tonumber(ARGV[5]), tonumber(ARGV[6]), 1 + known - done
while #reply <= want and size < most do
  -- First what an earlier reader had left, or a lost reply.
  local item = redis.call('LINDEX', KEYS[2], at)
    or redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  if not item then
    break
  end
  reply[#reply + 1] = item
  size = size + #item
  at = at + 1
end
return reply
