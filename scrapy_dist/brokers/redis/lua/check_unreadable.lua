-- Set aside what cannot be read, if it is still there, as long as S:failed has room.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  failed (stream)
--       state (hash)  tasks (hash)  tasks_ended (zset)
-- ARGV  mend: '1' or '0'  worker_name: for people  failed_limit: most dead letters
--       max_payload: most bytes kept of one
--       entries*: of each: the number of its place in the order of KEYS, member (4: order
--       id), SHA-1 of the entry in hex (4), first byte of what is kept of it (from 1),
--       deliveries, reason
-- Reply for each: 0 (it is not there any more), 1 (it is), 2 (it is and stays: no room)
-- Cost  O(members * log(pending))
-- @use dead_letters
local places, reply = {requests, suspects, leases}, {}
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
for i = entries_at + 1, #ARGV, 6 do
  local place, member, at = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 3])
  local entry
  if place == 4 then
    entry = redis.call('HGET', leased, member)
    entry = entry and redis.sha1hex(entry) == ARGV[i + 2] and entry
  else
    entry = redis.call('ZSCORE', places[place], member) and member
  end
  reply[#reply + 1] = entry and 1 or 0
  if entry and mend == '1' and not has_room() then
    reply[#reply] = 2
  elseif entry and mend == '1' then
    local claims = '-'
    if place == 4 then
      claims = select(3, read_entry(entry, member))
    elseif place == 2 then
      claims = select(2, read_suspect(entry))
    end
    local kept = entry:sub(at)
    kept = kept:sub(1, max_payload + (task_of(kept) and 17 or 0))
    write_letter(kept, ARGV[i + 5], worker_name, ARGV[i + 4], claims, 'request')
    if place == 4 then
      redis.call('HDEL', leased, member)
      redis.call('ZREM', leases, member)
    else
      redis.call('ZREM', places[place], member)
    end
  end
end
if mend == '1' then
  store_tasks(now_ms())
end
return reply
