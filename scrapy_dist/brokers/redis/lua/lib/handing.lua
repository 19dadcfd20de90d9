-- Handing out: from the pending requests and the suspects to one worker. What is of a task
-- that was cancelled goes, and is not handed out.
-- @use clock
-- @use order
-- @use entry
-- @use copies
-- @use tasks
-- @needs requests leases leased state worker max_payload reply_bytes

-- What is being handed out: the reply that tells it, what S:leased will have, and whence it
-- is. What is done for each is measured: no fields of tables, and few functions.
local reply, entries, members, taken_suspects, runs = {1, 0, 0, 0, 0, 0, '', ''}, {}, {}, {}, {}
-- How many of each slot that has more, and the slots that have not.
local given, empty = {}, {}
local handed, bytes, dropped = 0, 0, 0
local largest, limit = max_payload + 24, tonumber(reply_bytes)
local byte, sub = string.byte, string.sub
-- Small numbers as text: a number takes long to print.
local text_of = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'}

-- Whether what is of *token* is to go.
-- @rarely
local function drops(token)
  if not task_book().is_cancelled(token) then
    return false
  end
  dropped = dropped + 1
  task_book().count(token, -1, 0, 0)
  return true
end

-- What is told of a lease that is too large: it stays here.
local function cut(lease)
  reply[7] = reply[7] .. handed .. ':' .. #lease - 24 .. ' '
  return lease:sub(1, lease:byte(25) == 4 and 42 or 25) -- a byte, behind any head
end

-- Order id, and *member* with a rank in front.
-- @rarely
local function with_rank(member)
  if has_rank(member, 1) then
    return member:sub(9, 24), member
  end
  -- Not the frontier's work: the worker will set it aside.
  local id = redis.sha1hex(member):sub(1, 16)
  return id, first_rank(id) .. member
end

-- Hand out at most *most* requests of *slot*. How many that were, and whether it has more.
-- Of what goes, only some goes at once.
-- @here
local function hand_out_pending(slot, most)
  -- Some at first: a few may be as large as a whole call may be.
  local read, skip, step, goes_on, gone = 0, given[slot] or 0, 16, true, 0
  while read < most and bytes < limit and goes_on and dropped < 200 do
    local part = most - read
    if part > step then
      part = step
    end
    -- One more at the end shows whether the slot goes on.
    local asked = read + part == most and part + 1 or part
    local some = redis.call('ZRANGEBYSCORE', requests, slot, slot, 'LIMIT',
      text_of[skip + read + gone] or string.format('%d', skip + read + gone),
      text_of[asked] or string.format('%d', asked))
    local last, before, taken, size = #some, dropped, #members, bytes
    goes_on = last == asked
    if last > part then
      last = part
    end
    for i = 1, last do
      if size >= limit then
        last, goes_on = i - 1, true
        break
      end
      local lease = some[i]
      members[taken + i] = lease
      local last_but_one, end_of_id, kind = byte(lease, 23, 25)
      if kind ~= 4 or not drops(task_of(sub(lease, 25, 41))) then
        -- Patterns take a multiple of the time. What follows two zeros and is 2^44 at least,
        -- as all that a clock of today gives, is twelve digits or more; and neither of the
        -- last two is what a number may end in.
        local id = sub(lease, 9, 24)
        local first, second = byte(id, 1, 2)
        if first ~= 48 or second ~= 48 or not end_of_id or last_but_one < 33 or end_of_id < 33
          or (tonumber(id, 16) or 0) < 17592186044416 then
          id, lease = with_rank(lease)
        end
        handed, size = handed + 1, size + #lease
        entries[2 * handed - 1], entries[2 * handed] = id, slot .. ' 0 - ' .. lease
        reply[8 + handed] = #lease > largest and cut(lease) or lease
      end
    end
    bytes = size
    local fewer = dropped - before
    read, gone, step = read + last - fewer, gone + fewer, 2 * step
  end
  if read > 0 then
    runs[#runs + 1] = slot .. ':' .. (text_of[read] or read)
  end
  if not goes_on then
    empty[#empty + 1] = slot
    if skip > 0 then
      given[slot] = nil
    end
  elseif read + gone > 0 then
    given[slot] = skip + read + gone
  end
  return read, goes_on
end

-- Make it so: first the leases, then what they came from goes.
-- @here
local function store_handing(now)
  local call = redis.call
  reply[8] = table.concat(runs, ' ')
  if handed > 0 or dropped > 0 then
    call('HDEL', state, '') -- runs above maxmemory too
  end
  if handed > 0 then
    call('HSET', leased, unpack(entries))
    -- The highest id first: a small sorted set is searched from its beginning for a place.
    local owners = {}
    for i = 1, 2 * handed, 2 do
      owners[i], owners[i + 1] = worker, entries[2 * handed - i]
    end
    call('ZADD', leases, unpack(owners))
  end
  if handed > 0 or dropped > 0 then
    -- A number above all that were given out: who copies the frontier sees by it that
    -- something was handed out. See views/snapshot.py.
    local known = call('HMGET', state, 'order', 'copies')
    local fields = {'active', string.format('%d', now),
      'order', string.format('%d', order_at(known[1], now) + 1)}
    if known[2] and handed > 0 then
      note_handed(known[2], entries, now, fields)
    end
    call('HSET', state, unpack(fields))
  end
  for _, one in ipairs(taken_suspects) do
    call('ZREM', suspects, one)
  end
  if #members > 0 then
    -- By value, not by rank: a torn file may be played twice.
    call('ZREM', requests, unpack(members))
  end
  if dropped > 0 then
    store_tasks(now)
  end
end
