-- Find payloads without a lease; put them back where they came from.
--
-- Where a lease or a release was cut in half, the request is still or already there.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  state (hash)
--       slots (zset)  resting (zset)
-- ARGV  mend: '1' or '0'  ids*: order ids (<= 100) whose payloads can be read
-- Reply positions of the order ids without a lease
-- Cost  O(ids * log(pending))
-- @use give_back
local now, reply = now_ms(), {}
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
for i = 1, ids_count do
  local id = ARGV[ids_at + i]
  local entry = redis.call('HGET', leased, id)
  if entry and not redis.call('ZSCORE', leases, id) then
    reply[#reply + 1] = i - 1
    if mend == '1' then
      if not give_back(id, entry) then
        local _, _, _, rank, payload = read_entry(entry, id)
        redis.call('ZREM', requests, rank .. payload)
      end
      redis.call('HSET', state, 'active', now)
      redis.call('HDEL', leased, id)
    end
  end
end
return reply
