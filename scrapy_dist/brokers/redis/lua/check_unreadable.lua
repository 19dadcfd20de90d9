-- Set aside what cannot be read, if it is still there, as long as S:failed has room.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 failed (stream)  6 state (hash)
-- ARGV  1 '1': mend  2 worker for people  3 most dead letters kept  4 most bytes kept of a
--       payload, then for each: index in KEYS of what holds it, member (4: order id),
--       SHA-1 of the entry in hex (4), first byte of the payload in it (from 1),
--       deliveries, reason
-- Reply for each: 0 (it is not there any more), 1 (it is), 2 (it is and stays: no room)
-- Cost  O(members * log(pending))
-- @use entry
-- @use letters
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('XLEN', KEYS[5])
local mend = ARGV[1] == '1'
if mend then
  redis.call('HDEL', KEYS[6], '') -- runs above maxmemory too
end
local reply = {}
for i = 5, #ARGV, 6 do
  local place, member, at = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 3])
  local entry
  if place == 4 then
    entry = redis.call('HGET', KEYS[4], member)
    if entry and redis.sha1hex(entry) ~= ARGV[i + 2] then
      entry = nil
    end
  else
    entry = redis.call('ZSCORE', KEYS[place], member) and member
  end
  reply[#reply + 1] = entry and 1 or 0
  if entry and mend and not has_room(KEYS[5], ARGV[3]) then
    reply[#reply] = 2
  elseif entry and mend then
    local claims = '-'
    if place == 4 then
      claims = select(3, read_entry(entry))
    elseif place == 2 then
      claims = entry:match('^%d+ (%S+) ', 17) or '-'
    end
    write_letter(KEYS[5], entry:sub(at, at + ARGV[4] - 1), ARGV[i + 5], ARGV[2],
      ARGV[i + 4], claims, 'request')
    if place == 4 then
      redis.call('HDEL', KEYS[4], member)
      redis.call('ZREM', KEYS[3], member)
    else
      redis.call('ZREM', KEYS[place], member)
    end
  end
end
return reply
