-- Read pending requests and suspects in their order, while workers change them.
--
-- A page goes on behind the last member that was read, whether that is still there or
-- not: what is there all the time is read exactly once.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)
-- ARGV  1 most entries of a page  2 bytes after which it ends  3 '1': from the first on,
--       both, and ids of all leases, of one moment; else '', and
--       4 index of the key in KEYS  5 score and 6 member that were read last
-- Reply ids of leases, then for each of the keys: rank of the page, members and scores
-- Cost  O(log(requests) ^ 2 + entries), O(leases) with their ids
local most, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local sizes = {redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])}
redis.call('ZCARD', KEYS[3])
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
    local at = redis.call('ZRANGE', KEYS[n], middle, middle, 'WITHSCORES')
    local found = tonumber(at[2])
    if found > score or (found == score and is_behind(at[1], member)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end
local function page(n, rank)
  local found, bytes = {rank}, 0
  local last = math.min(sizes[n], rank + most)
  while rank < last and bytes < limit do
    local to = math.min(last, rank + 10)
    for _, part in ipairs(redis.call('ZRANGE', KEYS[n], rank, to - 1, 'WITHSCORES')) do
      found[#found + 1] = part
      bytes = bytes + #part
    end
    rank = to
  end
  return found
end
if ARGV[3] == '1' then
  return {redis.call('ZRANGE', KEYS[3], 0, -1), page(1, 0), page(2, 0)}
end
local n = tonumber(ARGV[4])
return {{}, page(n, rank_behind(n, tonumber(ARGV[5]), ARGV[6]))}
