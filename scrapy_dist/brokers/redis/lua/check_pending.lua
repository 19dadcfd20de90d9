-- Find requests that are in two places; remove the copy that nobody has in hand.
--
-- A request that is leased and also pending or a suspect stays leased; one that is
-- pending and a suspect stays a suspect.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  state (hash)
-- ARGV  mend: '1' or '0'  place: '1': requests hold the members, '2': suspects
--       members*: of the right form (<= 100)
-- Reply for each finding: position of the member, 1 (a copy) or 2 (another request is
--       leased under the same order id: see check_twice.lua)
-- Cost  O(members * log(pending))
-- @use entry
local reply, key = {}, place == '2' and suspects or requests
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
for i = 1, members_count do
  local member = ARGV[members_at + i]
  local rank, payload = member:sub(1, 24), member:sub(25)
  local id = rank:sub(9)
  if place == '2' then
    payload = select(5, read_suspect(member))
  end
  if redis.call('ZSCORE', key, member) then
    local entry = redis.call('ZSCORE', leases, id) and redis.call('HGET', leased, id)
    local is_leased = entry and is_entry(entry, id)
    local same = is_leased and select(5, read_entry(entry, id)) == payload
    local both = place == '2' and redis.call('ZSCORE', requests, rank .. payload)
    if is_leased or both then
      reply[#reply + 1] = i - 1
      reply[#reply + 1] = (same or both) and 1 or 2
    end
    if mend == '1' and both then
      redis.call('ZREM', requests, rank .. payload)
    end
    if mend == '1' and same then
      redis.call('ZREM', key, member)
    end
  end
end
return reply
