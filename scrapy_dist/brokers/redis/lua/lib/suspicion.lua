-- Which suspects a worker is handed.
--
-- A suspect that has died once goes out with others: if one of them kills the worker, it is
-- left with a death to spare. One that has not is handed out alone: to a worker that holds
-- nothing, and that is handed nothing beside it. If that worker dies, it was this request.
-- Where all workers are busy one of them, the field 'alone' of S:state, gets nothing until
-- it holds nothing; for a minute, as what it holds may wait for what is pending, and then
-- for a minute nobody.
-- @use handing
-- @needs suspects leases workers state worker most_suspects max_deliveries

-- At most *most* of those that *may_go*, of *count* that do not wait for room; whether it is
-- to be handed out alone; whether the worker gets nothing, to be alone.
local function choose_suspects(now, count, most, may_go)
  local call, taken, lone, is_alone = redis.call, {}, nil, false
  local alone, since = (call('HGET', state, 'alone') or ''):match('^(%d+) (%d+)$')
  local age = math.abs(now - (since or 0))
  if alone and (age > 120000 or not call('ZSCORE', workers, alone)) then
    alone = nil
  end
  local waits = alone == worker and age < 60000
  if most > 0 then
    local looked, found = 0, 0
    repeat -- once, unless there are some that wait for their slots
      local some = call('ZRANGE', suspects, looked, math.min(count, looked + 16) - 1)
      for _, one in ipairs(some) do
        local deaths, _, slot = read_suspect(one)
        deaths = tonumber(deaths)
        if may_go and not may_go(slot) then
          found = found - 1
        elseif deaths > 1 or deaths == 1 and tonumber(max_deliveries) < 3 then
          lone = lone or one
        elseif #taken < most then
          taken[#taken + 1] = one
        end
      end
      looked, found = looked + #some, found + #some
    until found > 0 or #some < 16 or looked >= 160
    if lone and call('ZCOUNT', leases, worker, worker) == 0 then
      taken, is_alone = {lone}, true
    end
    call('HDEL', state, '') -- runs above maxmemory too
    if lone and (not alone or alone == worker and is_alone) then
      call('HSET', state, 'alone', string.format('%s %d', worker, now))
      waits = true
    elseif not lone and alone == worker then
      call('HDEL', state, 'alone')
      waits = false
    end
  end
  return taken, is_alone, waits and not is_alone
end

-- Hand out suspects: *now*, *count*, *may_go* see above. How many other requests the worker may
-- get, of *most*.
-- @rarely
-- @here
local function hand_out_suspects(now, count, most, may_go)
  local found, is_alone, waits = choose_suspects(now, count, math.min(most, most_suspects), may_go)
  for _, one in ipairs(waits and {} or found) do
    if bytes < limit then
      local deaths, claims, slot, rank, payload = read_suspect(one)
      local id, lease = rank:sub(9), rank .. payload
      if not has_rank(rank, 1) then
        id, lease = with_rank(one)
      end
      taken_suspects[#taken_suspects + 1] = one
      if not drops(task_of(payload)) then
        handed, bytes = handed + 1, bytes + #one
        entries[2 * handed - 1] = id
        entries[2 * handed] = slot .. ' ' .. deaths .. ' ' .. claims .. ' ' .. lease
        reply[8 + handed] = #lease > largest and cut(lease) or lease
        runs[handed] = slot .. ':1'
      end
    end
  end
  reply[4], reply[6] = handed, (waits or is_alone) and 1 or 0
  return (waits or is_alone) and 0 or most - handed
end
