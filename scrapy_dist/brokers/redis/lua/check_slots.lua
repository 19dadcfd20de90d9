-- Find slots whose requests nobody would be given while others have work; let them be asked.
--
-- KEYS  requests (zset)  slots (zset)  state (hash)  resting (zset)
-- ARGV  mend: '1' or '0'  after: the slot to begin behind, '' for the first
--       most: slots to look at (<= 100)
-- Reply the slot to go on behind ('': there are no more), then for each finding: slot,
--       requests in it
-- Cost  O(slots looked at * log(pending))
-- @use entry
-- @use pending
-- More than any worker asks for; only a polite crawl has a clock of slots.
local most_seats = redis.call('HEXISTS', state, 'slots:seen') == 1 and 64 or 1
local reply, from = {''}, after == '' and '-inf' or '(' .. after
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end

-- The first request of *slot* that is one of ours, and how many are in it.
local function request_in(slot)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', requests, slot, slot, 'LIMIT', 0, 10)) do
    if has_rank(member, 1) then
      return member, redis.call('ZCOUNT', requests, slot, slot)
    end
  end
end
for _ = 1, most do
  local slot = redis.call('ZRANGEBYSCORE', requests, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if not slot then
    return reply
  end
  from, after = '(' .. slot, slot
  local names, has_turn = {slot}, false
  for seat = 1, most_seats - 1 do
    names[seat + 1] = slot .. '.' .. seat
  end
  for _, turn in ipairs(redis.call('ZMSCORE', slots, unpack(names))) do
    has_turn = has_turn or turn
  end
  local member, count = nil, 0
  if not has_turn then
    member, count = request_in(slot)
  end
  if member then
    reply[#reply + 1], reply[#reply + 2] = slot, count
    if mend == '1' then
      put_pending({slot, member})
    end
  end
end
reply[1] = after
return reply
