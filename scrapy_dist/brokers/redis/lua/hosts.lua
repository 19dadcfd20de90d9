-- How slots stand, for people. Writes nothing.
--
-- KEYS  requests (zset)  slots (zset)  resting (zset)  politeness (hash)  state (hash)
--       workers (zset)
-- ARGV  ttl_ms: of silence after which a worker is dead, if no worker has told
--       at: where to begin in the order of turns  most: slots in that order (<= 100)
--       random: pending requests, chosen at random, whose slots are told (<= 100)
--       more*: other slots (<= 100)
-- Reply slots, those that wait for a time, those that a worker has, pending, 1 if workers
--       are polite; then for each slot a list: number, pending, delay in ms ('': as the
--       settings say), ms until it may be asked (-1: workers have it), and who has it
-- Cost  O(slots told * log(pending))
-- @use slot_clock
-- @use owner
-- @use alive
-- @use entry
local call, seats_told = redis.call, 8
local now, wall = slot_clock()
local seen = call('HMGET', state, 'slots:seen', 'slots:shift')
-- No polite worker says nothing for a minute.
local last, shift = tonumber(seen[1] or nil), tonumber(seen[2] or nil) or 0
local silent = last and wall + shift - last
local is_polite = silent and (silent < 60000 or alive_workers(wall) == 0)
local reply = {call('ZCARD', slots), 0, 0, call('ZCARD', requests), is_polite and 1 or 0}
if is_polite then
  local first = string.format('%.0f', mark_of(0))
  reply[2] = call('ZCOUNT', slots, string.format('(%.0f', now), '(' .. first)
  reply[3] = call('ZCOUNT', slots, first, '+inf')
end

local told = {}
-- Several seats of a slot are one: see lib/seats.lua.
local function tell(name)
  local slot = name:match('^(%d+)%.%d+$') or name
  if told[slot] or #slot > 40 or not is_slot(slot) then
    return
  end
  told[slot] = true
  local one = {slot, call('ZCOUNT', requests, slot, slot),
    (call('HGET', politeness, slot) or ''):match('^(%d+) %d+$') or '', 0}
  reply[#reply + 1] = one
  if not is_polite then
    return
  end
  local names, wait = {slot}, nil
  for seat = 1, seats_told - 1 do
    names[seat + 1] = slot .. '.' .. seat
  end
  for _, mark in ipairs(call('ZMSCORE', slots, unpack(names))) do
    local owner = mark and mark - mark_of(0) or -1
    if owner >= 0 then
      local number = string.format('%.0f', owner)
      one[#one + 1] = (call('HGET', state, 'worker:' .. number) or number):sub(1, 400)
    elseif mark then
      wait = math.max(0, math.min(wait or math.huge, mark - now))
    end
  end
  wait = wait or #one > 4 and -1
  one[4] = wait or math.max(0, (call('ZSCORE', resting, slot) or 0) - now)
end

if tonumber(most) > 0 then
  for _, name in ipairs(call('ZRANGE', slots, at, at + most - 1)) do
    tell(name)
  end
end
for first = 1, tonumber(random), 10 do -- payloads come along
  local part = math.min(10, random - first + 1)
  local some = call('ZRANDMEMBER', requests, -part, 'WITHSCORES')
  for i = 2, #some, 2 do
    tell(some[i])
  end
end
for i = more_at + 1, more_at + more_count do
  tell(ARGV[i])
end
return reply
