-- Hand out pending requests, a fair share at most, and at most one suspect.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 workers (zset)  6 state (hash)  7 control (hash)
-- ARGV  1 worker number  2 most requests (<= 100)  3 '1': may be given a suspect
--       4 ms of silence after which a worker is dead
-- Reply known (0: register first), pending left, suspects left,
--       then for each lease: order id, 1 for a suspect, payload
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
if redis.call('HEXISTS', KEYS[7], 'paused') == 1 then
  return {1, pending, suspects}
end
local reply, entries, owners = {1, 0, 0}, {}, {}
local function hand_out(id, score, is_suspect, deaths, claims, payload)
  entries[#entries + 1] = id
  entries[#entries + 1] = score .. ' ' .. deaths .. ' ' .. claims .. ' ' .. payload
  owners[#owners + 1] = ARGV[1]
  owners[#owners + 1] = id
  reply[#reply + 1] = id
  reply[#reply + 1] = is_suspect
  reply[#reply + 1] = payload
end
local hex = '^' .. ('%x'):rep(16)
local function split(member)
  if member:find(hex) then
    return member:sub(1, 16), member:sub(17)
  end
  -- Not the frontier's work: the worker will set it aside.
  return redis.sha1hex(member):sub(1, 16), member
end
local want = tonumber(ARGV[2])
local suspect
if suspects > 0 and want > 0 and ARGV[3] == '1' then
  suspect = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  local id, rest = split(suspect[1])
  local deaths, claims, at = rest:match('^(%d+) (%S+) ()')
  hand_out(id, suspect[2], 1, deaths or 0, claims or '-', rest:sub(at or 1))
  want = want - 1
end
local alive = math.max(1, redis.call('ZCOUNT', KEYS[5], '(' .. now - ARGV[4], '+inf'))
local held = redis.call('ZCOUNT', KEYS[3], ARGV[1], ARGV[1]) + (suspect and 1 or 0)
local members = {}
local share = math.ceil((pending + suspects + redis.call('ZCARD', KEYS[3])) / alive) - held
share = math.max(0, math.min(want, pending, share))
if share > 0 then
  local taken = redis.call('ZRANGE', KEYS[1], 0, share - 1, 'WITHSCORES')
  for i = 1, #taken, 2 do
    members[#members + 1] = taken[i]
    local id, payload = split(taken[i])
    hand_out(id, taken[i + 1], 0, 0, '-', payload)
  end
end
reply[2] = pending - share
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
    -- By value, not by rank: a torn file may be played twice.
    redis.call('ZREM', KEYS[1], unpack(members))
  end
end
return reply
