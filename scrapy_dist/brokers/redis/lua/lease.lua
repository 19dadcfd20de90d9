-- Hand out pending requests, a fair share at most, and suspects. Suspects that have failed
-- and wait for room in S:failed are not handed out: see lib/letters.lua.
--
-- A suspect that has died once goes out with others: if one of them kills the worker, it is
-- left with a death to spare. One that has not is handed out alone: to a worker that holds
-- nothing, and that is handed nothing beside it. If that worker dies, it was this request.
-- Where all workers are busy one of them, the field 'alone' of S:state, gets nothing until
-- it holds nothing; for a minute, as what it holds may wait for what is pending, and then
-- for a minute nobody.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 workers (zset)  6 state (hash)  7 control (hash)
-- ARGV  1 worker number  2 most requests (<= 100)  3 most suspects
--       4 ms of silence after which a worker is dead  5 deaths after which a request has
--       failed  6 bytes of the largest payload  7 bytes of payloads after which it is enough
-- Reply known (0: register first), pending left, suspects left, how many of the first
--       leases are suspects, suspects that wait for room, 1 if this worker is to be alone
--       with the lease that it gets or will get, payloads that are too large ('number:bytes'
--       of each), then each lease: order id and payload, of one too large its first byte
-- Cost  O(requests per call * log(pending))
local call, format = redis.call, string.format
local now = call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local pending = call('ZCARD', KEYS[1])
local suspects = call('ZCARD', KEYS[2])
local leased = call('ZCARD', KEYS[3])
call('HLEN', KEYS[4])
if not call('ZSCORE', KEYS[5], ARGV[1]) then
  return {0, pending, suspects, 0, 0, 0, ''}
end
local waiting = suspects > 0 and call('ZCOUNT', KEYS[2], '+inf', '+inf') or 0
suspects = suspects - waiting
if call('HGET', KEYS[7], 'paused') then
  return {1, pending, suspects, 0, waiting, 0, ''}
end
local reply, entries, owners, count = {1, 0, 0, 0, waiting, 0, ''}, {}, {}, 0
local largest, bytes, limit = ARGV[6] + 16, 0, tonumber(ARGV[7])
-- What strings cost Lua is their number and, as it hashes each, their length. So order id
-- and payload stay one, and what mostly is the same is not said: the head of an entry is
-- left out if the score is 0 and nothing has happened to the request; else it begins with
-- a space.
local function hand_out(id, head, lease)
  local at = 2 * count
  entries[at + 1], entries[at + 2] = id, head == '' and lease or head .. lease
  count = count + 1
  if #lease > largest then -- stays here
    reply[7] = reply[7] .. count .. ':' .. #lease - 16 .. ' '
    lease = lease:sub(1, 17)
  end
  reply[7 + count] = lease
end
local hex = '^' .. ('%x'):rep(16)
local function with_id(member)
  if member:find(hex) then
    return member:sub(1, 16), member
  end
  -- Not the frontier's work: the worker will set it aside.
  local id = redis.sha1hex(member):sub(1, 16)
  return id, id .. member
end
local want = tonumber(ARGV[2])
local taken = {}
if suspects > 0 and want > 0 then
  local most, lone = tonumber(ARGV[3]), nil
  local alone, since = (call('HGET', KEYS[6], 'alone') or ''):match('^(%d+) (%d+)$')
  local age = math.abs(now - (since or 0))
  if alone and (age > 120000 or not call('ZSCORE', KEYS[5], alone)) then
    alone = nil
  end
  local waits = alone == ARGV[1] and age < 60000
  if most > 0 then
    local found = call('ZRANGE', KEYS[2], 0, math.min(suspects, 16) - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      local deaths = tonumber(found[i]:match('^(%d+) ', 17) or 0)
      local suspect = {found[i], found[i + 1]}
      if deaths > 1 or deaths == 1 and tonumber(ARGV[5]) < 3 then
        lone = lone or suspect
      elseif #taken < math.min(most, want) then
        taken[#taken + 1] = suspect
      end
    end
    if lone and call('ZCOUNT', KEYS[3], ARGV[1], ARGV[1]) == 0 then
      taken, want, reply[6] = {lone}, 1, 1
    end
    call('HDEL', KEYS[6], '') -- runs above maxmemory too
    if lone and (not alone or alone == ARGV[1] and reply[6] == 1) then
      call('HSET', KEYS[6], 'alone', format('%s %d', ARGV[1], now))
      waits = true
    elseif not lone and alone == ARGV[1] then
      call('HDEL', KEYS[6], 'alone')
      waits = false
    end
  end
  if waits and reply[6] == 0 then
    return {1, pending, suspects, 0, waiting, 1, ''}
  end
end
local fit = 0
for n, suspect in ipairs(taken) do
  if bytes < limit then
    fit, bytes = n, bytes + #suspect[1]
  end
end
for n = #taken, fit + 1, -1 do
  taken[n] = nil
end
for _, suspect in ipairs(taken) do
  local id, member = with_id(suspect[1])
  local deaths, claims, at = member:match('^(%d+) (%S+) ()', 17)
  local head = ' ' .. suspect[2] .. ' ' .. (deaths or 0) .. ' ' .. (claims or '-') .. ' '
  hand_out(id, head, id .. member:sub(at or 17))
end
reply[4] = #taken
want = want - #taken
local alive = math.max(1, call('ZCOUNT', KEYS[5], format('(%d', now - ARGV[4]), '+inf'))
local members = {}
local share = math.ceil((pending + suspects + leased) / alive)
if share - leased <= want then -- else it is enough, whoever holds them
  share = share - call('ZCOUNT', KEYS[3], ARGV[1], ARGV[1]) - #taken
end
share = math.max(0, math.min(want, pending, share))
if share > 0 then
  -- Some at first: a few may be as large as a whole call may be.
  local read, to = 0, math.min(share, 8)
  while read < to do
    local some = call('ZRANGE', KEYS[1], format('%d', read), format('%d', to - 1))
    for i = 1, #some do
      if bytes >= limit then
        share = read
        break
      end
      read = read + 1
      members[read], bytes = some[i], bytes + #some[i]
    end
    to = math.min(share, 4 * to)
  end
end
if share > 0 then
  -- Scores cost a lot to print; mostly all of them are the same.
  local scores, first = nil, call('ZSCORE', KEYS[1], members[1])
  if call('ZSCORE', KEYS[1], members[share]) ~= first then
    scores = call('ZMSCORE', KEYS[1], unpack(members))
  end
  local head = tonumber(first) == 0 and '' or ' ' .. first .. ' 0 - '
  for i = 1, share do
    local id, lease = with_id(members[i])
    hand_out(id, scores and ' ' .. scores[i] .. ' 0 - ' or head, lease)
  end
end
reply[2] = pending - share
reply[3] = suspects - #taken
if #entries > 0 then
  call('HDEL', KEYS[6], '') -- runs above maxmemory too
  call('HSET', KEYS[4], unpack(entries))
  -- The highest id first: a small sorted set is searched from its beginning for a place.
  for i = 1, count do
    owners[2 * i - 1], owners[2 * i] = ARGV[1], entries[2 * (count - i) + 1]
  end
  call('ZADD', KEYS[3], unpack(owners))
  -- A number above all that were given out: who looks at the frontier while it changes
  -- sees by it which workers were handed something. See views/snapshot.py and commit.lua.
  local order = tonumber(call('HGET', KEYS[6], 'order') or 0)
  order = format('%d', math.max(order + 1, (now - 1735689600000) * 1024))
  call('HSET', KEYS[6], 'active', format('%d', now), 'order', order,
    'handed:' .. ARGV[1], order)
  for _, suspect in ipairs(taken) do
    call('ZREM', KEYS[2], suspect[1])
  end
  if share > 0 then
    -- By value, not by rank: a torn file may be played twice.
    call('ZREM', KEYS[1], unpack(members))
  end
end
return reply
