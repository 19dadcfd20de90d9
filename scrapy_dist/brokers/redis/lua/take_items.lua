-- Move items to a reader's own list, and drop those there that it is done with.
--
-- The reader's list holds its mark, then what it has not acknowledged.
--
-- KEYS  items (list)  taken (list)
-- ARGV  mark: of the reader: 'reader:' and a random number
--       joins: '1': take the list over from an earlier reader
--       done: items acknowledged, the oldest ones  known: items in its list that the reader
--       knows of, with those  want: most items in the reply (<= 100)
--       limit: bytes after which no further item is taken
-- Reply outcome (1 done, 0 another reader has the list, -1 fewer items there than the
--       reader knows: Redis was rolled back), then items
-- Cost  O(items per call)
local first = redis.call('LINDEX', taken, 0)
if joins ~= '1' and first ~= mark then
  return {0}
end
redis.call('LTRIM', taken, 0, -1) -- runs above maxmemory too: to read is to drain it
if first == false then
  redis.call('RPUSH', taken, mark)
elseif first:sub(1, 7) == 'reader:' then
  redis.call('LSET', taken, 0, mark)
else
  redis.call('LPUSH', taken, mark)
end
if redis.call('LLEN', taken) - 1 < tonumber(known) then
  return {-1}
end
if tonumber(done) > 0 then
  -- By value, not by number: a torn file may be played twice.
  for _, item in ipairs(redis.call('LRANGE', taken, 1, done)) do
    redis.call('LREM', taken, 1, item)
  end
end
local reply, size, at = {1}, 0, 1 + known - done
while #reply <= tonumber(want) and size < tonumber(limit) do
  -- First what an earlier reader had left, or a lost reply.
  local item = redis.call('LINDEX', taken, at)
    or redis.call('LMOVE', items, taken, 'LEFT', 'RIGHT')
  if not item then
    break
  end
  reply[#reply + 1] = item
  size = size + #item
  at = at + 1
end
return reply
