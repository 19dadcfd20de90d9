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
-- Slots take turns, the one that was handed out the longest ago first, and give an equal
-- share each; those of one slot go out in the order of their ranks, see lib/entry.lua.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  workers (zset)
--       state (hash)  control (hash)  slots (zset)
-- ARGV  worker: its number  want: most requests (<= 100)  most_suspects: most suspects
--       ttl_ms: of silence after which a worker is dead
--       max_deliveries: deaths after which a request has failed
--       max_payload: bytes of the largest one
--       reply_bytes: of payloads after which it is enough
--       enough*: numbers of slots of which this worker has enough
-- Reply known (0: register first), pending left, suspects left, how many of the first
--       leases are suspects, suspects that wait for room, 1 if this worker is to be alone
--       with the lease that it gets or will get, payloads that are too large ('number:bytes'
--       of each), slots ('slot:leases' of each, in the order of the leases), then each lease:
--       rank and payload, of one too large its first byte
-- Cost  O(requests per call * log(pending) + enough)
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
call('ZCARD', slots)
if not call('ZSCORE', workers, worker) then
  return {0, pending, suspect, 0, 0, 0, '', ''}
end
local waiting = suspect > 0 and call('ZCOUNT', suspects, '+inf', '+inf') or 0
suspect = suspect - waiting
if call('HGET', control, 'paused') then
  return {1, pending, suspect, 0, waiting, 0, '', ''}
end
local reply, entries, owners, count = {1, 0, 0, 0, waiting, 0, '', ''}, {}, {}, 0
local largest, bytes, limit, of_slots = max_payload + 24, 0, tonumber(reply_bytes), {}
local function hand_out(id, entry, lease)
  local at = 2 * count
  entries[at + 1], entries[at + 2] = id, entry
  count = count + 1
  if #lease > largest then -- stays here
    reply[7] = reply[7] .. count .. ':' .. #lease - 24 .. ' '
    lease = lease:sub(1, 25)
  end
  reply[8 + count] = lease
end
-- Order id, and *member* with a rank in front.
local function with_rank(member)
  if has_rank(member, 1) then
    return member:sub(9, 24), member
  end
  -- Not the frontier's work: the worker will set it aside.
  local id = redis.sha1hex(member):sub(1, 16)
  return id, first_rank(id) .. member
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
    local found = call('ZRANGE', suspects, 0, math.min(suspect, 16) - 1)
    for _, one in ipairs(found) do
      local deaths = tonumber((read_suspect(one)))
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
    return {1, pending, suspect, 0, waiting, 1, '', ''}
  end
end
local fit = 0
for n, one in ipairs(taken) do
  if bytes < limit then
    fit, bytes = n, bytes + #one
  end
end
for n = #taken, fit + 1, -1 do
  taken[n] = nil
end
for _, one in ipairs(taken) do
  local deaths, claims, slot, rank, payload = read_suspect(one)
  local id, lease = rank:sub(9), rank .. payload
  if not has_rank(rank, 1) then
    id, lease = with_rank(one)
  end
  hand_out(id, slot .. ' ' .. deaths .. ' ' .. claims .. ' ' .. lease, lease)
  of_slots[#of_slots + 1] = slot .. ':1'
end
reply[4] = #taken
want = want - #taken
local alive = math.max(1, call('ZCOUNT', workers, format('(%d', now - ttl_ms), '+inf'))
local share = math.ceil((pending + suspect + held) / alive)
if share - held <= want then -- else it is enough, whoever holds them
  share = share - call('ZCOUNT', leases, worker, worker) - #taken
end
share = math.max(0, math.min(want, pending, share))

local members, given, is_empty, empty = {}, {}, {}, {}
-- Hand out at most *most* requests of *slot*; how many that were.
local function take(slot, most)
  -- Some at first: a few may be as large as a whole call may be.
  local read, skip, step, head = 0, given[slot] or 0, 8, slot .. ' 0 - '
  while read < most and bytes < limit do
    local part = math.min(step, most - read)
    -- One more at the end shows whether the slot goes on.
    local wanted = read + part == most and part + 1 or part
    local some = call('ZRANGEBYSCORE', requests, slot, slot, 'LIMIT',
      format('%d', skip + read), format('%d', wanted))
    for i = 1, math.min(#some, part) do
      local id, lease = with_rank(some[i])
      members[#members + 1] = some[i]
      bytes = bytes + #lease
      hand_out(id, head .. lease, lease)
    end
    read = read + math.min(#some, part)
    if #some < wanted then
      is_empty[slot], empty[#empty + 1] = true, slot
      break
    end
    step = 4 * step
  end
  if read > 0 then
    of_slots[#of_slots + 1] = slot .. ':' .. read
    given[slot] = skip + read
  end
  return read
end
-- Hand out *left* requests of the slots *found*, as equal as can be, and of the first ones
-- more; how many are left.
local function take_in_turn(found, left)
  while #found > 0 and left > 0 and bytes < limit do
    local part, extra, rest, ahead = math.floor(left / #found), left % #found, {}, {}
    for _, slot in ipairs(found) do
      local most = extra > 0 and part + 1 or part
      if most == 0 then
        break
      end
      local n = take(slot, most)
      left = left - n
      extra = n > part and extra - 1 or extra
      if n == most and not is_empty[slot] then
        local same = n > part and ahead or rest
        same[#same + 1] = slot
      end
    end
    for _, slot in ipairs(ahead) do
      rest[#rest + 1] = slot
    end
    found = rest
  end
  return left
end
if share > 0 then
  local skipped, left, at, some = {}, share, 0, nil
  for i = enough_at + 1, enough_at + enough_count do
    skipped[ARGV[i]] = true
  end
  local room = share + enough_count
  repeat -- once, unless slots are there that have nothing
    local found = {}
    some = call('ZRANGE', slots, format('%d', at), format('%d', at + room - 1))
    for _, slot in ipairs(some) do
      if not skipped[slot] then
        found[#found + 1] = slot
      end
    end
    left, at = take_in_turn(found, left), at + #some
  until left == 0 or #some < room or at > 1000 or bytes >= limit
  if #members == 0 and call('ZCARD', slots) == #empty then
    -- Requests that came in past the frontier, or of a torn file.
    local slot = call('ZRANGE', requests, 0, 0, 'WITHSCORES')[2]
    take_in_turn(skipped[slot] and {} or {slot}, share)
  end
end
reply[2] = pending - #members
reply[3] = suspect - #taken
reply[8] = table.concat(of_slots, ' ')
if #entries > 0 or #empty > 0 then
  call('HDEL', state, '') -- runs above maxmemory too
end
if #entries > 0 then
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
    call('ZREM', suspects, one)
  end
  if #members > 0 then
    -- By value, not by rank: a torn file may be played twice.
    call('ZREM', requests, unpack(members))
  end
end
local turns, last = {}, nil
for slot in pairs(given) do
  if not is_empty[slot] then
    -- Behind all others, also within a ms, and when the clock has gone back.
    last = last or tonumber(call('ZREVRANGE', slots, 0, 0, 'WITHSCORES')[2] or 0)
    turns[#turns + 1], turns[#turns + 2] = math.max(now, last + 1), slot
  end
end
if #turns > 0 then
  call('ZADD', slots, unpack(turns))
end
if #empty > 0 then
  call('ZREM', slots, unpack(empty))
end
return reply
