-- Read requests, suspects and leases in their order, while workers change them; or see
-- what they are at one moment, beyond what was read. See views/snapshot.py.
--
-- A page goes on behind the last member that was read, whether that is still there or
-- not: what is there all the time is read exactly once.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 workers (zset)
--       5 state (hash)
-- ARGV  1 most entries of a page  2 bytes after which it ends, then
--       of a page: 3 index of the key in KEYS  4 score and 5 member that were read last,
--       '' and '' = from the first on
--       of a moment: 3 '0'  4 order counter: what workers were handed up to it was read
--       5 leases after which the reply ends, with those of the worker they belong to
-- Reply of a page: order counter, 1 if the member that was read last is still there,
--       members and scores
--       of a moment: order counter up to which this tells all, ids of the leases of
--       workers that were handed some since, then, if these are all, the first page of
--       requests and that of suspects: 1, members and scores
-- Cost  O(log(entries) ^ 2 + entries of a page), of a moment O(workers + ids)
local call = redis.call
local most, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local sizes = {}
for n = 1, 3 do
  sizes[n] = call('ZCARD', KEYS[n])
end
call('ZCARD', KEYS[4])
local order = tonumber(call('HGET', KEYS[5], 'order') or 0)
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
local function rank_behind(n, score, member)
  local low, high = 0, sizes[n]
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = call('ZRANGE', KEYS[n], middle, middle, 'WITHSCORES')
    local found = tonumber(at[2])
    if found > score or (found == score and is_behind(at[1], member)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end
local function page(n, rank, is_there)
  local found, bytes = {is_there and 1 or 0}, 0
  local last = math.min(sizes[n], rank + most)
  while rank < last and bytes < limit do
    local to = math.min(last, rank + 10)
    for _, part in ipairs(call('ZRANGE', KEYS[n], rank, to - 1, 'WITHSCORES')) do
      found[#found + 1] = part
      bytes = bytes + #part
    end
    rank = to
  end
  return found
end
local n = tonumber(ARGV[3])
if n > 0 then
  if ARGV[4] == '' then
    return {order, page(n, 0, true)}
  end
  local rank = rank_behind(n, tonumber(ARGV[4]), ARGV[5])
  return {order, page(n, rank, call('ZSCORE', KEYS[n], ARGV[5]))}
end
-- Workers that were handed something since, by when: no two have the same number.
local handed, owners, since = {}, {}, tonumber(ARGV[4])
local workers = order == since and {} or call('ZRANGE', KEYS[4], 0, -1)
for first = 1, #workers, 1000 do -- Lua's stack is bounded
  local fields = {}
  for i = first, math.min(first + 999, #workers) do
    fields[i - first + 1] = 'handed:' .. workers[i]
  end
  for i, at in ipairs(call('HMGET', KEYS[5], unpack(fields))) do
    at = at and tonumber(at) or 0
    if at > since then
      handed[#handed + 1] = at
      owners[at] = workers[first + i - 1]
    end
  end
end
table.sort(handed)
local ids = {}
for _, at in ipairs(handed) do
  if #ids >= tonumber(ARGV[5]) then
    return {since, ids}
  end
  since = at
  for _, id in ipairs(call('ZRANGEBYSCORE', KEYS[3], owners[at], owners[at])) do
    ids[#ids + 1] = id
  end
end
return {order, ids, page(1, 0, true), page(2, 0, true)}
