-- Read pending requests of several slots, some of each, in the order of their ranks.
--
-- KEYS  requests (zset)
-- ARGV  at: requests of each slot to leave out  most: requests of each
--       slots*: their numbers (<= 100)
-- Reply for each slot its members
-- Cost  O(slots * log(pending) + requests)
local reply = {}
for i = 1, slots_count do
  local slot, found = ARGV[slots_at + i], {}
  local first = redis.call('ZCOUNT', requests, '-inf', '(' .. slot) + at
  local part = redis.call('ZRANGE', requests, first, first + most - 1, 'WITHSCORES')
  for n = 1, #part, 2 do
    if tonumber(part[n + 1]) == tonumber(slot) then
      found[#found + 1] = part[n]
    end
  end
  reply[i] = found
end
return reply
