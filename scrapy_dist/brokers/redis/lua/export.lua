-- Read requests, suspects or leases in their order, while workers change them; and collect
-- the notes of what was handed out meanwhile. See views/snapshot.py.
--
-- A page goes on behind the last member that was read, whether that is still there or
-- not: what is there all the time is read exactly once.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  state (hash)
-- ARGV  name: of the copy, see lib/copies.lua  most: entries of a page
--       limit: bytes after which it ends
--       place: the number of what is read in the order of KEYS
--       score: of what was read last, '' = from the first on  member: what was read last
-- Reply 1 if all that was handed out since the last page, or since the copy began, is in
--       the notes; order counter; notes; members and scores
-- Cost  O(log(entries) ^ 2 + entries of a page + notes)
-- @use clock
-- @use copies
local call = redis.call
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
local function page(key, rank)
  local found, bytes = {}, 0
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
local function collect()
  for word in (call('HGET', state, 'copies') or ''):gmatch('%S+') do
    local one, _, count = read_copy(word)
    if one == name and is_writable() then
      local notes = count > 0 and call('HMGET', state, unpack(notes_of(name, count)))
      renew_copy(name, now_ms())
      return 1, notes or {}
    end
  end
  return 0, {}
end
local key = ({requests, suspects, leases})[tonumber(place)]
local is_noted, notes = collect()
return {is_noted, call('HGET', state, 'order') or '0', notes,
  page(key, score == '' and 0 or rank_behind(key))}
