-- Handing out: from the pending requests and the suspects to one worker. What is of a task
-- that was cancelled goes, and is not handed out.
-- @use clock
-- @use order
-- @use entry
-- @use copies
-- @use tasks
-- @needs requests suspects leases leased state worker max_payload reply_bytes

-- What is being handed out, and the reply that tells it.
local function new_handing()
  return {
    reply = {1, 0, 0, 0, 0, 0, '', ''}, entries = {}, count = 0, bytes = 0, runs = {},
    members = {}, suspects = {}, given = {}, empty = {}, largest = max_payload + 24,
    limit = tonumber(reply_bytes), dropped = 0, handed = 0,
  }
end

-- Whether what is of *token* is to go.
local function drops(handing, token)
  if not task_book().is_cancelled(token) then
    return false
  end
  handing.dropped = handing.dropped + 1
  task_book().count(token, -1, 0, 0)
  return true
end

-- What is told of a lease, the one of number *count*, that is too large: it stays here.
local function cut(handing, count, lease)
  handing.reply[7] = handing.reply[7] .. count .. ':' .. #lease - 24 .. ' '
  return lease:sub(1, lease:byte(25) == 4 and 42 or 25) -- a byte, behind any head
end

-- What strings cost Lua is their number and, as it hashes each, their length.
local function hand_out(handing, id, entry, lease)
  local entries, count = handing.entries, handing.count + 1
  entries[2 * count - 1], entries[2 * count] = id, entry
  handing.count = count
  handing.reply[8 + count] = #lease > handing.largest and cut(handing, count, lease) or lease
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

local function hand_out_suspects(handing, found)
  for _, one in ipairs(found) do
    if handing.bytes < handing.limit then
      local deaths, claims, slot, rank, payload = read_suspect(one)
      local id, lease = rank:sub(9), rank .. payload
      if not has_rank(rank, 1) then
        id, lease = with_rank(one)
      end
      handing.suspects[#handing.suspects + 1] = one
      if not drops(handing, task_of(payload)) then
        hand_out(handing, id, slot .. ' ' .. deaths .. ' ' .. claims .. ' ' .. lease, lease)
        handing.bytes = handing.bytes + #one
        handing.runs[#handing.runs + 1] = slot .. ':1'
      end
    end
  end
  handing.handed = handing.count
  handing.reply[4] = handing.count
end

-- Hand out at most *most* requests of *slot*. How many that were, and whether it has more;
-- slots that have no more are in *empty* of *handing*. Of what goes, only some goes at once.
local function hand_out_pending(handing, slot, most)
  -- Some at first: a few may be as large as a whole call may be.
  local read, skip, step, head = 0, handing.given[slot] or 0, 8, slot .. ' 0 - '
  local has_more, gone = true, 0
  -- What is done for each is measured: no fields of tables, and no functions that need not be.
  local entries, members, reply = handing.entries, handing.members, handing.reply
  local byte, sub, tonumber = string.byte, string.sub, tonumber
  local count, taken, bytes = handing.count, #members, handing.bytes
  local largest, limit = handing.largest, handing.limit
  while read < most and bytes < limit and has_more and handing.dropped < 200 do
    local part = math.min(step, most - read)
    -- One more at the end shows whether the slot goes on.
    local asked = read + part == most and part + 1 or part
    local some = redis.call('ZRANGEBYSCORE', requests, slot, slot, 'LIMIT',
      string.format('%d', skip + read + gone), string.format('%d', asked))
    local last, before = math.min(#some, part), handing.dropped
    for i = 1, last do
      if bytes >= limit then
        last = i - 1
        break
      end
      local lease = some[i]
      taken = taken + 1
      members[taken] = lease
      if byte(lease, 25) ~= 4 or not drops(handing, task_of(sub(lease, 25, 41))) then
        -- Patterns take a multiple of the time. What follows two zeros and is 2^44 at least,
        -- as all that a clock of today gives, is twelve digits or more; and neither of the
        -- last two is what a number may end in.
        local id = sub(lease, 9, 24)
        local first, second = byte(id, 1, 2)
        local last_but_one, end_of_id = byte(id, 15, 16)
        if first ~= 48 or second ~= 48 or not end_of_id or last_but_one < 33 or end_of_id < 33
          or (tonumber(id, 16) or 0) < 17592186044416 then
          id, lease = with_rank(lease)
        end
        local size = #lease
        bytes, count = bytes + size, count + 1
        entries[2 * count - 1], entries[2 * count] = id, head .. lease
        reply[8 + count] = size > largest and cut(handing, count, lease) or lease
      end
    end
    local fewer = handing.dropped - before
    read, gone = read + last - fewer, gone + fewer
    has_more = #some == asked or last < #some
    step = 4 * step
  end
  handing.count, handing.bytes = count, bytes
  if read > 0 then
    handing.runs[#handing.runs + 1] = slot .. ':' .. read
  end
  if read + gone > 0 then
    handing.given[slot] = skip + read + gone
  end
  if not has_more then
    handing.empty[#handing.empty + 1] = slot
  end
  return read, has_more
end

-- Make it so: first the leases, then what they came from goes.
local function store_handing(handing, now)
  local call, entries, members = redis.call, handing.entries, handing.members
  handing.reply[8] = table.concat(handing.runs, ' ')
  if #entries == 0 and handing.dropped == 0 then
    return
  end
  call('HDEL', state, '') -- runs above maxmemory too
  if #entries > 0 then
    call('HSET', leased, unpack(entries))
  end
  -- The highest id first: a small sorted set is searched from its beginning for a place.
  local owners, count = {}, handing.count
  for i = 1, count do
    owners[2 * i - 1], owners[2 * i] = worker, entries[2 * (count - i) + 1]
  end
  if #entries > 0 then
    call('ZADD', leases, unpack(owners))
  end
  -- A number above all that were given out: who copies the frontier sees by it that
  -- something was handed out. See views/snapshot.py.
  local known = call('HMGET', state, 'order', 'copies')
  local fields = {'active', string.format('%d', now),
    'order', string.format('%d', order_at(known[1], now) + 1)}
  if known[2] and #entries > 0 then
    note(known[2], entries, now, fields)
  end
  call('HSET', state, unpack(fields))
  for _, one in ipairs(handing.suspects) do
    call('ZREM', suspects, one)
  end
  if #members > 0 then
    -- By value, not by rank: a torn file may be played twice.
    call('ZREM', requests, unpack(members))
  end
  if handing.dropped > 0 then
    store_tasks(now)
  end
end
