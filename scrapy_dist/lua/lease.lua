-- Hand out pending requests, a fair share at most, and at most one suspect.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 workers (zset)  6 state (hash)
-- ARGV  1 worker number  2 most requests (<= 100)  3 '1': may be given a suspect
--       4 ms of silence after which a worker is dead
-- Reply known (0: register first), pending left, suspects left,
--       then for each lease: order id, deaths so far, payload
-- Cost  O(requests per call * log(pending))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local pending = redis.call('ZCARD', KEYS[1])
local suspects = redis.call('ZCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
if not redis.call('ZSCORE', KEYS[5], ARGV[1]) then
  return {0, pending, suspects}
end
local reply, entries, owners = {1, 0, 0}, {}, {}
local function hand_out(id, score, deaths, claims, payload)
  entries[#entries + 1] = id
  entries[#entries + 1] = score .. ' ' .. deaths .. ' ' .. claims .. ' ' .. payload
  owners[#owners + 1] = ARGV[1]
  owners[#owners + 1] = id
  reply[#reply + 1] = id
  reply[#reply + 1] = tonumber(deaths)
  reply[#reply + 1] = payload
end
local want = tonumber(ARGV[2])
local suspect
if suspects > 0 and want > 0 and ARGV[3] == '1' then
  suspect = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  local id, deaths, claims, at = suspect[1]:match('^(' .. ('%x'):rep(16) .. ')(%d+) (%S+) ()')
  if id then
    hand_out(id, suspect[2], deaths, claims, suspect[1]:sub(at))
  else -- not ours: the worker sets it aside
    hand_out(redis.sha1hex(suspect[1]):sub(1, 16), suspect[2], 0, '-', suspect[1])
  end
  want = want - 1
end
local alive = math.max(1, redis.call('ZCOUNT', KEYS[5], '(' .. now - ARGV[4], '+inf'))
local share = math.min(want, math.ceil(pending / alive))
if share > 0 then
  local taken = redis.call('ZRANGE', KEYS[1], 0, share - 1, 'WITHSCORES')
  for i = 1, #taken, 2 do
    local member = taken[i]
    if member:find('^' .. ('%x'):rep(16)) then
      hand_out(member:sub(1, 16), taken[i + 1], 0, '-', member:sub(17))
    else
      hand_out(redis.sha1hex(member):sub(1, 16), taken[i + 1], 0, '-', member)
    end
  end
end
reply[2] = pending - math.max(share, 0)
reply[3] = suspects - (suspect and 1 or 0)
if #entries > 0 then
  redis.call('HDEL', KEYS[6], '') -- runs above maxmemory too
  redis.call('HSET', KEYS[4], unpack(entries))
  redis.call('ZADD', KEYS[3], unpack(owners))
  redis.call('HSET', KEYS[6], 'active', string.format('%.0f', now))
  if suspect then
    redis.call('ZREM', KEYS[2], suspect[1])
  end
  if share > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, share - 1)
  end
end
return reply
