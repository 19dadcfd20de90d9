-- Read requests, suspects and leases in their order, while workers change them; or see
-- what they are at one moment, beyond what was read. See views/snapshot.py.
--
-- A page goes on behind the last member that was read, whether that is still there or
-- not: what is there all the time is read exactly once.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  workers (zset)  state (hash)
-- ARGV  most: entries of a page  limit: bytes after which it ends
--       place: the number of what is read in the order of KEYS, '0' = a moment
--       score: of what was read last, '' = from the first on  member: what was read last
--       since: of a moment: order counter up to which what workers were handed was read
--       most_ids: of a moment: leases after which the reply ends, with those of the worker
--       they belong to
-- Reply of a page: order counter, 1 if the member that was read last is still there,
--       members and scores
--       of a moment: order counter up to which this tells all, ids of the leases of
--       workers that were handed some since, then, if these are all, the first page of
--       requests and that of suspects: 1, members and scores
-- Cost  O(log(entries) ^ 2 + entries of a page), of a moment O(workers + ids)
local call = redis.call
local places = {requests, suspects, leases}
local order = tonumber(call('HGET', state, 'order') or 0)
-- Redis compares bytes; Lua's < would ask the locale.
local function is_behind(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end
local function rank_behind(key)
  local low, high, last = 0, call('ZCARD', key), tonumber(score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = call('ZRANGE', key, middle, middle, 'WITHSCORES')
    local found = tonumber(at[2])
    if found > last or (found == last and is_behind(at[1], member)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end
local function page(key, rank, is_there)
  local found, bytes = {is_there and 1 or 0}, 0
  local last = math.min(call('ZCARD', key), rank + most)
  while rank < last and bytes < tonumber(limit) do
    local to = math.min(last, rank + 10)
    for _, part in ipairs(call('ZRANGE', key, rank, to - 1, 'WITHSCORES')) do
      found[#found + 1] = part
      bytes = bytes + #part
    end
    rank = to
  end
  return found
end
local key = places[tonumber(place)]
if key and score == '' then
  return {order, page(key, 0, true)}
elseif key then
  return {order, page(key, rank_behind(key), call('ZSCORE', key, member))}
end
-- Workers that were handed something since, by when: no two have the same number.
local handed, owners, known = {}, {}, tonumber(since)
local numbers = order == known and {} or call('ZRANGE', workers, 0, -1)
for first = 1, #numbers, 1000 do -- Lua's stack is bounded
  local fields = {}
  for i = first, math.min(first + 999, #numbers) do
    fields[i - first + 1] = 'handed:' .. numbers[i]
  end
  for i, at in ipairs(call('HMGET', state, unpack(fields))) do
    at = at and tonumber(at) or 0
    if at > known then
      handed[#handed + 1] = at
      owners[at] = numbers[first + i - 1]
    end
  end
end
table.sort(handed)
local ids = {}
for _, at in ipairs(handed) do
  if #ids >= tonumber(most_ids) then
    return {known, ids}
  end
  known = at
  for _, id in ipairs(call('ZRANGEBYSCORE', leases, owners[at], owners[at])) do
    ids[#ids + 1] = id
  end
end
return {order, ids, page(requests, 0, true), page(suspects, 0, true)}
