-- Move items to a reader's own list, and drop those there that it is done with.
--
-- KEYS  items (list)  taken (list)
-- ARGV  reader: its number  mark: that of its list, as the last reply had it; '' if that is
--       not known  word: for new names, without a mark  patience: ms of silence after which
--       another reader has gone; '': this one had the list, and takes it from nobody
--       done: items acknowledged, the oldest ones
--       known: items in its list that the reader knows of, with those
--       want: most items in the reply (<= 100)
--       limit: bytes after which no further item is taken
-- Reply outcome (1 done, 0 another reader has the list, -1 the mark is another one, or
--       items are missing: Redis was rolled back), the mark, then items
-- Cost  O(items per call)
-- @use clock
-- @use reader
local first, now = redis.call('LINDEX', taken, 0), now_ms()
local owner, seen, runs = read_mark(first)
if owner ~= reader then
  -- A clock that has gone back a long way makes nobody wait for ever.
  if patience == '' or (owner and math.abs(now - seen) < tonumber(patience)) then
    return {0}
  end
end
if mark ~= '' and (first ~= mark or redis.call('LLEN', taken) - 1 < tonumber(known)) then
  return {-1}
end
redis.call('LTRIM', taken, 0, -1) -- runs above maxmemory too: to read is to drain it
if mark == '' then
  local held = redis.call('LLEN', taken) - (owner and 1 or 0)
  -- What a torn file has lost is missing at the front: it had been acknowledged.
  drop_names(runs, math.max(0, count_names(runs) - held))
  runs[#runs + 1] = {word, 0, held - count_names(runs)}
end
if tonumber(done) > 0 then
  -- By value, not by number: a torn file may be played twice.
  for _, item in ipairs(redis.call('LRANGE', taken, 1, done)) do
    redis.call('LREM', taken, 1, item)
  end
  drop_names(runs, tonumber(done))
end
if owner then
  redis.call('LSET', taken, 0, to_mark(reader, now, runs))
else
  redis.call('LPUSH', taken, to_mark(reader, now, runs))
end
local found, size, at, moved = {}, 0, 1 + known - done, 0
while #found < tonumber(want) and size < tonumber(limit) do
  -- First what an earlier reader had left, or a lost reply.
  local item = redis.call('LINDEX', taken, at)
  if not item then
    item = redis.call('LMOVE', items, taken, 'LEFT', 'RIGHT')
    if not item then
      break
    end
    moved = moved + 1
  end
  found[#found + 1] = item
  size = size + #item
  at = at + 1
end
if moved > 0 then
  runs[#runs][3] = runs[#runs][3] + moved
  redis.call('LSET', taken, 0, to_mark(reader, now, runs))
end
return {1, to_mark(reader, now, runs), unpack(found)}
