-- Convert requests of an older format, each if it is still there: see upgrade.py.
--
-- What was leased becomes a suspect, as if its worker had died, if that is not in the list.
--
-- KEYS  workers (zset)  state (hash)  requests (zset)  suspects (zset)  leases (zset)
--       leased (hash)  failed (stream)  slots (zset)  resting (zset)
--       tasks (hash)  tasks_ended (zset)
-- ARGV  max_deliveries: deaths after which a request has failed
--       failed_limit: most dead letters  mark: of this change, like no other
--       place: '1' requests, '2' suspects, '3' leases, '4' leased
--       entries*: of each (<= 100): member (3 and 4: order id), slot, score as in a rank
-- Reply requests converted; -1: begin once more, Redis has gone back to before that
-- Cost  O(entries * log(pending))
-- @use older
-- @use deaths
-- @use pending
local done, is_changed, key = 0, false, place == '2' and suspects or requests
local known = redis.call('HGET', state, 'upgrade')
if not known then
  return -1
end
redis.call('HDEL', state, '') -- runs above maxmemory too
local pending, gone = {}, {}
for i = entries_at + 1, #ARGV, 3 do
  local member, slot, score = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if place == '3' then
    -- An ack that was cut in half: its work is done.
    local owner = redis.call('ZSCORE', leases, member)
    if owner and not redis.call('ZSCORE', workers, owner)
      and redis.call('HEXISTS', leased, member) == 0 then
      redis.call('ZREM', leases, member)
      is_changed = true
    end
  elseif place == '4' then
    local entry = redis.call('HGET', leased, member)
    local deaths, claims, payload = read_older_entry(entry or '', member)
    if deaths then
      local owner = redis.call('ZSCORE', leases, member)
      entry = slot .. ' ' .. deaths .. ' ' .. claims .. ' ' .. score .. member .. payload
      if owner and not redis.call('ZSCORE', workers, owner) then
        count_death(member, entry, redis.call('HGET', state, 'worker:' .. owner) or owner)
        redis.call('HDEL', leased, member)
        redis.call('ZREM', leases, member)
      else
        redis.call('HSET', leased, member, entry)
      end
      done = done + 1
    end
  else
    local waits = redis.call('ZSCORE', key, member)
    local deaths, claims, at = member:match('^(%d+) (%S+) ()', 17)
    if waits and is_older_member(member) and place == '1' then
      pending[#pending + 1] = slot
      pending[#pending + 1] = score .. member
      gone[#gone + 1] = member
    elseif waits and is_older_member(member) and at then
      put_suspect(waits == 'inf' and '+inf' or 0, slot, score .. member:sub(1, 16), deaths,
        claims, member:sub(at))
      gone[#gone + 1] = member
    end
  end
end
put_pending(pending)
if #gone > 0 then
  redis.call('ZREM', key, unpack(gone))
end
done = done + #gone
if done > 0 or is_changed then
  redis.call('HSET', state, 'upgrade', (known:match('^%d+') or '1') .. ' ' .. mark,
    'active', now_ms())
end
store_tasks(now_ms())
return done
