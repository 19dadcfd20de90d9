-- Hand out requests of the slots whose owner this worker is, or becomes: see lib/seats.lua;
-- and suspects whose slots are free, see lib/suspicion.lua.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  workers (zset)
--       state (hash)  control (hash)  slots (zset)  resting (zset)  politeness (hash)
--       tasks (hash)  tasks_ended (zset)
-- ARGV  worker: its number  round: that it is in, see lib/rounds.lua
--       want: most requests (<= 100)  most_suspects: most suspects
--       ttl_ms: of silence after which a worker is dead
--       max_deliveries: deaths after which a request has failed
--       max_payload: bytes of the largest one
--       reply_bytes: of payloads after which it is enough
--       delay_ms: between two starts in a slot  places: of a slot without delay
--       horizon_ms: of starts that a grant is for  portion: most requests of a grant
--       most_seats: of a slot without delay
--       renewals*: of each seat that this worker has: its name, most requests, most
--       downloads that it may have under way there
-- Reply as lease.lua, and behind the leases: seats ('name:delay:places:count' of each, in the
--       order of the leases; -1 leases: it is not this worker's, -2: another one waits to
--       visit the slot), ms until a slot may be asked (-1: nothing waits), slots that may be;
--       1 also if another worker has none, and this one more than its share
-- Cost  O(requests per call * log(pending) + slots per call)
-- @use suspicion
-- @use rounds
-- @use slot_clock
-- @use seats
local call, format = redis.call, string.format
local now, wall, clock = slot_clock()
local pending, suspect = call('ZCARD', requests), call('ZCARD', suspects)
if tonumber(call('ZSCORE', workers, worker) or 0) == 0 or is_late() then
  return {0, pending, suspect, 0, 0, 0, '', '', '', -1, 0}
end
local waiting = suspect > 0 and call('ZCOUNT', suspects, '+inf', '+inf') or 0
suspect = suspect - waiting
want, most_seats, portion = tonumber(want), tonumber(most_seats), tonumber(portion)
local is_paused = call('HGET', control, 'paused')
local grants, mine, open, over, old, has_none = {}, {}, {}, {}, {}, {}
local own, at = mark_of(worker), format('%.0f', now)
local mark, granted = format('%.0f', own), {}

local function tell(seat, delay, count, leases_of)
  grants[#grants + 1] = format('%s:%.0f:%.0f:%d', seat, delay, count, leases_of)
end
local function wanted_by_another(value)
  local who, since = (value or ''):match('^(%d+) (%d+)$')
  return who and who ~= worker and now - since < 2000
end
-- Requests of a seat (counted from 0), and whether there may be more; its next seat is free
-- then, unless there are more downloads *under_way* in this one than it has places. If the
-- first one is *new*, so are all that there is something for: the places are soon in use.
local function serve(slot, index, rules, most, under_way, new)
  local delay, count, seats = rules_of(rules, most_seats)
  count = places_of(slot, delay, count, seats, index, old)
  local n, has_more = 0, false
  if most > 0 and not has_none[slot] then
    n, has_more = hand_out_pending(slot, most)
    want, has_none[slot] = want - n, not has_more
  end
  if n > 0 and has_more and index + 1 < seats and under_way <= count then
    local last = index + 1
    if new and index == 0 then
      last = math.min(seats - 1, call('ZCOUNT', requests, slot, slot) - given[slot])
    end
    for other = index + 1, last do
      open[#open + 1], open[#open + 2] = at, slot .. '.' .. other
    end
  end
  return n, delay, count, has_more
end

if is_paused then
  want = 0
elseif suspect > 0 and want > 0 then
  local function may_go(slot)
    local ready = tonumber(call('ZSCORE', slots, slot) or call('ZSCORE', resting, slot) or 0)
    return ready <= now or ready == own
  end
  want = hand_out_suspects(wall, suspect, want, may_go)
  for _, run in ipairs(runs) do
    local slot = run:match('^[^:]+')
    local delay, count, seats = rules_of(call('HGET', politeness, slot), most_seats)
    tell(slot, delay, places_of(slot, delay, count, seats, 0, old), 1)
    if not granted[slot] then
      granted[slot] = true
      mine[#mine + 1], mine[#mine + 2] = mark, slot
    end
  end
end
for i = renewals_at + 1, #ARGV, 3 do
  local name, most = ARGV[i], tonumber(ARGV[i + 1])
  local slot, index = name:match('^(%d+)%.?(%d*)$')
  local rules = call('HMGET', politeness, slot, 'wanted:' .. slot)
  if tonumber(call('ZSCORE', slots, name) or 0) ~= own then
    tell(name, 0, 0, -1)
  elseif wanted_by_another(rules[2])
    or (tonumber(index) or 0) >= select(3, rules_of(rules[1], most_seats)) then
    tell(name, 0, 0, -2)
  else
    local n, delay, count = serve(slot, tonumber(index) or 0, rules[1],
      math.min(want, most), tonumber(ARGV[i + 2]))
    tell(name, delay, count, n)
  end
end
local alive = math.max(1, call('ZCOUNT', workers, format('(%d', wall - ttl_ms), '+inf'))
-- While somebody has asked in vain lately who has none, who has its share gets no more, and
-- who has more is told that others wait.
local someone_has_none = now - (tonumber(call('HGET', state, 'hungry') or nil) or 0) < 2000
local function seats_beyond_share(free)
  local taken = call('ZCOUNT', slots, format('%.0f', mark_of(0)), '+inf')
  return call('ZCOUNT', slots, mark, mark) - math.ceil((taken + free) / alive)
end
local ready = call('ZCOUNT', slots, '-inf', at)
if ready > 0 and want > 0
  and not (someone_has_none and seats_beyond_share(ready) >= 0) then
  local most, granted_count = math.min(want, math.ceil(ready / alive)), 0
  local found = call('ZRANGEBYSCORE', slots, '-inf', at, 'LIMIT', '0', format('%d', most + 20))
  local fields = {}
  for i, name in ipairs(found) do
    local slot = name:match('^%d+') or name
    fields[2 * i - 1], fields[2 * i] = slot, 'wanted:' .. slot
  end
  local rules = call('HMGET', politeness, unpack(fields))
  for i, name in ipairs(found) do
    local slot = fields[2 * i - 1]
    if granted_count < most and want > 0 and bytes < limit and not granted[slot]
      and not wanted_by_another(rules[2 * i]) then
      local index = name == slot and 0 or tonumber(name:sub(#slot + 2)) or 0
      local delay, _, seats = rules_of(rules[2 * i - 1], most_seats)
      local part = index < seats and math.min(want, portion) or 0
      if delay > 0 then
        part = math.min(part, 1 + math.floor(horizon_ms / delay))
      else -- each of those that are left gets some
        local left = math.min(most - granted_count, #found - i + 1)
        part = math.min(part, math.max(1, math.floor(want / left)))
      end
      local n, _, count, has_more = serve(slot, index, rules[2 * i - 1], part, 0, true)
      if n > 0 then
        granted_count = granted_count + 1
        mine[#mine + 1], mine[#mine + 2] = mark, name
        tell(name, delay, count, n)
      elseif not has_more then -- else some of it was of cancelled tasks, and its turn is now
        over[#over + 1] = name
      end
    end
  end
  ready = ready - granted_count - #over
end
local adopted
if want > 0 and pending > 0 and call('ZCARD', slots) == #over then
  -- Requests that came in past the frontier, or of a torn file: the next call finds them.
  adopted = call('ZRANGE', requests, 0, 0, 'WITHSCORES')
  if not adopted[2]:find('^%d+$') then
    adopted[2] = '0' -- the names of its seats would be those of others
  end
  open[#open + 1], open[#open + 2] = call('ZSCORE', resting, adopted[2]) or at, adopted[2]
  ready = 1
end
reply[2], reply[3], reply[5] = pending - #members, suspect - #taken_suspects, waiting
redis.call('HDEL', state, '') -- runs above maxmemory too
keep_slot_clock(clock)
-- First who owns the slots, then the leases, then the requests are removed.
if #mine > 0 then
  call('ZADD', slots, unpack(mine))
end
if #open > 0 then
  call('ZADD', slots, 'NX', unpack(open))
end
if adopted then
  call('ZADD', requests, adopted[2], adopted[1])
end
store_handing(wall)
for _, gone in ipairs({over, old}) do
  if #gone > 0 then
    call('ZREM', slots, unpack(gone))
  end
end
local wait = ready > 0 and 0 or -1
if wait < 0 then
  local next_one = call('ZRANGEBYSCORE', slots, '(' .. at, below_marks(), 'WITHSCORES',
    'LIMIT', '0', '1')[2]
  wait = next_one and next_one - now or -1
end
if ready <= 0 and someone_has_none and seats_beyond_share(0) > 0 then
  ready = 1 -- so that some go back when their turns are over
elseif ready <= 0 and #grants == 0 and want > 0 and pending > 0 and alive > 1
  and call('ZCOUNT', slots, mark, mark) == 0 then
  call('HSET', state, 'hungry', at)
end
reply[#reply + 1] = table.concat(grants, ' ')
reply[#reply + 1] = wait
reply[#reply + 1] = math.max(0, ready)
return reply
