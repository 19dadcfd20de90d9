-- Which slots leased requests are of, seeds aside. Writes nothing.
--
-- KEYS  leases (zset)  leased (hash)
-- ARGV  at: leases to leave out  most: leases to look at (<= 100)
-- Reply leases in all, then for each request: its slot, its order id
-- Cost  O(leases looked at)
-- @use entry
local reply = {redis.call('ZCARD', leases)}
for _, id in ipairs(redis.call('ZRANGE', leases, at, at + most - 1)) do
  local entry = redis.call('HGET', leased, id)
  local slot, rank = (entry or ''):match('^(%S+) %d+ %S+ ()')
  local kind = rank and entry:byte(rank + 24)
  kind = kind == 4 and entry:byte(rank + 41) or kind -- behind the head of a task
  if rank and is_slot(slot) and kind ~= 0 then
    reply[#reply + 1], reply[#reply + 2] = slot, id
  end
end
return reply
