-- Hand out pending requests, a fair share at most, and suspects. Suspects that have failed
-- and wait for room in S:failed are not handed out: see lib/dead_letters.lua.
--
-- A suspect that has died once goes out with others: if one of them kills the worker, it is
-- left with a death to spare. One that has not is handed out alone: to a worker that holds
-- nothing, and that is handed nothing beside it. If that worker dies, it was this request.
-- Where all workers are busy one of them, the field 'alone' of S:state, gets nothing until
-- it holds nothing; for a minute, as what it holds may wait for what is pending, and then
-- for a minute nobody.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  workers (zset)
--       state (hash)  control (hash)
-- ARGV  worker: its number  want: most requests (<= 100)  most_suspects: most suspects
--       ttl_ms: of silence after which a worker is dead
--       max_deliveries: deaths after which a request has failed
--       max_payload: bytes of the largest one
--       reply_bytes: of payloads after which it is enough
-- Reply known (0: register first), pending left, suspects left, how many of the first
--       leases are suspects, suspects that wait for room, 1 if this worker is to be alone
--       with the lease that it gets or will get, payloads that are too large ('number:bytes'
--       of each), then each lease: order id and payload, of one too large its first byte
-- Cost  O(requests per call * log(pending))
-- @use clock
-- @use order
-- @use entry
-- @types are seen by what is read
local call, format = redis.call, string.format
local now = now_ms()
local pending = call('ZCARD', requests)
local suspect = call('ZCARD', suspects)
local held = call('ZCARD', leases)
call('HLEN', leased)
if not call('ZSCORE', workers, worker) then
  return {0, pending, suspect, 0, 0, 0, ''}
end
local waiting = suspect > 0 and call('ZCOUNT', suspects, '+inf', '+inf') or 0
suspect = suspect - waiting
if call('HGET', control, 'paused') then
  return {1, pending, suspect, 0, waiting, 0, ''}
end
local reply, entries, owners, count = {1, 0, 0, 0, waiting, 0, ''}, {}, {}, 0
local largest, bytes, limit = max_payload + 16, 0, tonumber(reply_bytes)
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
want = tonumber(want)
local taken = {}
if suspect > 0 and want > 0 then
  local most, lone = tonumber(most_suspects), nil
  local alone, since = (call('HGET', state, 'alone') or ''):match('^(%d+) (%d+)$')
  local age = math.abs(now - (since or 0))
  if alone and (age > 120000 or not call('ZSCORE', workers, alone)) then
    alone = nil
  end
  local waits = alone == worker and age < 60000
  if most > 0 then
    local found = call('ZRANGE', suspects, 0, math.min(suspect, 16) - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      local deaths = tonumber((read_suspect(found[i])))
      local one = {found[i], found[i + 1]}
      if deaths > 1 or deaths == 1 and tonumber(max_deliveries) < 3 then
        lone = lone or one
      elseif #taken < math.min(most, want) then
        taken[#taken + 1] = one
      end
    end
    if lone and call('ZCOUNT', leases, worker, worker) == 0 then
      taken, want, reply[6] = {lone}, 1, 1
    end
    call('HDEL', state, '') -- runs above maxmemory too
    if lone and (not alone or alone == worker and reply[6] == 1) then
      call('HSET', state, 'alone', format('%s %d', worker, now))
      waits = true
    elseif not lone and alone == worker then
      call('HDEL', state, 'alone')
      waits = false
    end
  end
  if waits and reply[6] == 0 then
    return {1, pending, suspect, 0, waiting, 1, ''}
  end
end
local fit = 0
for n, one in ipairs(taken) do
  if bytes < limit then
    fit, bytes = n, bytes + #one[1]
  end
end
for n = #taken, fit + 1, -1 do
  taken[n] = nil
end
for _, one in ipairs(taken) do
  local id, member = with_id(one[1])
  local deaths, claims, payload = read_suspect(member)
  hand_out(id, ' ' .. one[2] .. ' ' .. deaths .. ' ' .. claims .. ' ', id .. payload)
end
reply[4] = #taken
want = want - #taken
local alive = math.max(1, call('ZCOUNT', workers, format('(%d', now - ttl_ms), '+inf'))
local members = {}
local share = math.ceil((pending + suspect + held) / alive)
if share - held <= want then -- else it is enough, whoever holds them
  share = share - call('ZCOUNT', leases, worker, worker) - #taken
end
share = math.max(0, math.min(want, pending, share))
if share > 0 then
  -- Some at first: a few may be as large as a whole call may be.
  local read, to = 0, math.min(share, 8)
  while read < to do
    local some = call('ZRANGE', requests, format('%d', read), format('%d', to - 1))
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
  local scores, first = nil, call('ZSCORE', requests, members[1])
  if call('ZSCORE', requests, members[share]) ~= first then
    scores = call('ZMSCORE', requests, unpack(members))
  end
  local head = tonumber(first) == 0 and '' or ' ' .. first .. ' 0 - '
  for i = 1, share do
    local id, lease = with_id(members[i])
    hand_out(id, scores and ' ' .. scores[i] .. ' 0 - ' or head, lease)
  end
end
reply[2] = pending - share
reply[3] = suspect - #taken
if #entries > 0 then
  call('HDEL', state, '') -- runs above maxmemory too
  call('HSET', leased, unpack(entries))
  -- The highest id first: a small sorted set is searched from its beginning for a place.
  for i = 1, count do
    owners[2 * i - 1], owners[2 * i] = worker, entries[2 * (count - i) + 1]
  end
  call('ZADD', leases, unpack(owners))
  -- A number above all that were given out: who looks at the frontier while it changes
  -- sees by it which workers were handed something. See views/snapshot.py and commit.lua.
  local order = format('%d', order_at(call('HGET', state, 'order'), now) + 1)
  call('HSET', state, 'active', format('%d', now), 'order', order,
    'handed:' .. worker, order)
  for _, one in ipairs(taken) do
    call('ZREM', suspects, one[1])
  end
  if share > 0 then
    -- By value, not by rank: a torn file may be played twice.
    call('ZREM', requests, unpack(members))
  end
end
return reply
