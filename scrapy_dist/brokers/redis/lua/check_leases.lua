-- Find leases without payload and leases of unknown workers; mend them.
--
-- A lease without payload is an ack that was cut in half: its work is done. Leases of a
-- worker that is not in the list nobody would ever reap.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 leases (zset)  4 leased (hash)
--       5 suspects (zset)  6 failed (stream)
-- ARGV  1 '1': mend  2 deaths after which a request has failed  3 most dead letters kept
--       4… order ids (<= 100)
-- Reply for each finding: position of the order id, 1 (no payload) or 2 (unknown worker),
--       worker for people
-- Cost  O(ids * log(leases))
-- @use entry
-- @use letters
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('XLEN', KEYS[6])
local mend = ARGV[1] == '1'
if mend then
  redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too
end
local function bury(id, entry, worker)
  local score, deaths, claims, payload = read_entry(entry)
  deaths = deaths + 1
  if deaths >= tonumber(ARGV[2]) then
    if has_room(KEYS[6], ARGV[3]) then
      write_letter(KEYS[6], payload,
        deaths .. ' workers died while they worked on it', worker, deaths, claims)
    else
      keep_failed(KEYS[5], id, deaths, claims, payload)
    end
  else
    redis.call('ZADD', KEYS[5], score, id .. deaths .. ' ' .. claims .. ' ' .. payload)
  end
  redis.call('HDEL', KEYS[4], id)
end
local reply = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local owner = redis.call('ZSCORE', KEYS[3], id)
  if owner then
    local entry = redis.call('HGET', KEYS[4], id)
    local known = redis.call('ZSCORE', KEYS[1], owner)
    -- What cannot be read is set aside by check_unreadable.lua.
    if entry and entry:byte() ~= 32 then -- without a head, see lease.lua
      entry = ' 0 0 - ' .. entry
    end
    local score, at = (entry or ''):match('^ (%S+) %d+ %S+ ()')
    score = tonumber(score)
    local readable = score and score == score and entry:sub(at, at + 15) == id
      and id:find('^' .. ('%x'):rep(16) .. '$')
    if not entry or (readable and not known) then
      local worker = redis.call('HGET', KEYS[2], 'worker:' .. owner) or owner
      reply[#reply + 1] = i - 4
      reply[#reply + 1] = entry and 2 or 1
      reply[#reply + 1] = worker
      if mend then
        if entry then
          bury(id, entry, worker)
          redis.call('HSET', KEYS[2], 'active', now)
        end
        redis.call('ZREM', KEYS[3], id)
      end
    end
  end
end
return reply
