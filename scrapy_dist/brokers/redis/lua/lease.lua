-- Hand out pending requests, a fair share at most, and suspects: see lib/suspicion.lua.
-- Suspects that have failed and wait for room in S:failed are not handed out: see
-- lib/dead_letters.lua.
--
-- Slots take turns, the one that was handed out the longest ago first, and give an equal
-- share each; those of one slot go out in the order of their ranks, see lib/entry.lua.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  workers (zset)
--       state (hash)  control (hash)  slots (zset)  tasks (hash)  tasks_ended (zset)
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
-- @use suspicion
-- @use owner
-- @types are seen by what is read
local call, format = redis.call, string.format
local now = now_ms()
local pending = call('ZCARD', requests)
local suspect = call('ZCARD', suspects)
local held = call('ZCARD', leases)
if not call('ZSCORE', workers, worker) then
  return {0, pending, suspect, 0, 0, 0, '', ''}
end
local waiting = suspect > 0 and call('ZCOUNT', suspects, '+inf', '+inf') or 0
suspect = suspect - waiting
if call('HGET', control, 'paused') then
  return {1, pending, suspect, 0, waiting, 0, '', ''}
end
want = tonumber(want)
if suspect > 0 and want > 0 then
  call('HLEN', leased)
  call('ZCARD', slots)
  want = hand_out_suspects(now, suspect, want)
end
local alive = math.max(1, call('ZCOUNT', workers, format('(%d', now - ttl_ms), '+inf'))
local share = math.ceil((pending + suspect + held) / alive)
if share - held <= want then -- else it is enough, whoever holds them
  share = share - call('ZCOUNT', leases, worker, worker) - handed
end
share = math.max(0, math.min(want, pending, share))

local slots_seen, is_at_end, is_lost = 0, false, false
if share > 0 then
  local skipped, left, room = {}, share, math.max(2, share + enough_count)
  for i = enough_at + 1, enough_at + enough_count do
    skipped[ARGV[i]] = true
  end
  repeat -- once, unless slots are there that have nothing
    local found
    if is_lost then
      -- Requests that came in past the frontier, or of a torn file.
      local slot = call('ZRANGE', requests, 0, 0, 'WITHSCORES')[2]
      found = {slot}
    else
      found = call('ZRANGE', slots, format('%d', slots_seen),
        format('%d', slots_seen + room - 1))
      slots_seen, is_at_end = slots_seen + #found, #found < room
    end
    if enough_count > 0 then
      local some = found
      found = {}
      for _, slot in ipairs(some) do
        if not skipped[slot] then
          found[#found + 1] = slot
        end
      end
    end
    -- As equal as can be, and of the first ones more.
    while #found > 0 and left > 0 and bytes < limit do
      local part, extra, rest, ahead = math.floor(left / #found), left % #found, {}, {}
      for _, slot in ipairs(found) do
        local most = extra > 0 and part + 1 or part
        if most == 0 then
          break
        end
        local n, has_more = hand_out_pending(slot, most)
        left = left - n
        extra = n > part and extra - 1 or extra
        if n == most and has_more then
          local same = n > part and ahead or rest
          same[#same + 1] = slot
        end
      end
      for _, slot in ipairs(ahead) do
        rest[#rest + 1] = slot
      end
      found = rest
    end
    local ends = left == 0 or is_at_end or slots_seen > 1000 or bytes >= limit
    is_lost = not is_lost and #members == 0 and is_at_end and slots_seen == #empty
  until ends and not is_lost
end
reply[2] = pending - #members
reply[3] = suspect - #taken_suspects
reply[5] = waiting
if #empty > 0 then
  call('HDEL', state, '') -- runs above maxmemory too
end
store_handing(now)
-- One that is alone has nobody to take turns with, if it has a turn, and no mark.
local is_alone = slots_seen == 1 and is_at_end and #empty == 0
  and call('ZCOUNT', slots, '-inf', below_marks()) == 1
if next(given) and not is_alone then
  -- Behind all others, also within a ms, and when the clock has gone back; not behind
  -- marks of owners, which lib/seats.lua has above these times.
  local last = call('ZREVRANGEBYSCORE', slots, below_marks(), '-inf', 'WITHSCORES',
    'LIMIT', '0', '1')[2]
  local turn, turns = format('%.0f', math.max(now, (last or 0) + 1)), {}
  for slot in pairs(given) do
    turns[#turns + 1], turns[#turns + 2] = turn, slot
  end
  call('ZADD', slots, unpack(turns))
end
if #empty > 0 then
  call('ZREM', slots, unpack(empty))
end
return reply
