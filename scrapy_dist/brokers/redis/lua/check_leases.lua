-- Find leases without payload and leases of unknown workers; mend them.
--
-- A lease without payload is an ack that was cut in half: its work is done. Leases of a
-- worker that is not in the list nobody would ever reap.
--
-- KEYS  workers (zset)  state (hash)  leases (zset)  leased (hash)  suspects (zset)
--       failed (stream)  tasks (hash)  tasks_ended (zset)
-- ARGV  mend: '1' or '0'  max_deliveries: deaths after which a request has failed
--       failed_limit: most dead letters  ids*: order ids (<= 100)
-- Reply for each finding: position of the order id, 1 (no payload) or 2 (unknown worker),
--       worker for people
-- Cost  O(ids * log(leases))
-- @use deaths
local now, reply = now_ms(), {}
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
for i = 1, ids_count do
  local id = ARGV[ids_at + i]
  local owner = redis.call('ZSCORE', leases, id)
  local entry = owner and redis.call('HGET', leased, id)
  -- What cannot be read is set aside by check_unreadable.lua.
  local unknown = entry and not redis.call('ZSCORE', workers, owner) and is_entry(entry, id)
  if owner and (not entry or unknown) then
    local worker = redis.call('HGET', state, 'worker:' .. owner) or owner
    reply[#reply + 1] = i - 1
    reply[#reply + 1] = entry and 2 or 1
    reply[#reply + 1] = worker
    if mend == '1' then
      if entry then
        count_death(id, entry, worker)
        redis.call('HDEL', leased, id)
        redis.call('HSET', state, 'active', now)
      end
      redis.call('ZREM', leases, id)
    end
  end
end
if mend == '1' then
  store_tasks(now)
end
return reply
