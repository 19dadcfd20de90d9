-- Set leased requests aside as dead letters; what finds no room stays a suspect.
--
-- KEYS  1 leases (zset)  2 leased (hash)  3 failed (stream)  4 state (hash)
--       5 suspects (zset)
-- ARGV  1 worker number  2 worker for people  3 most dead letters kept
--       4 most bytes kept of a payload, then for each request: order id, kind (seed or
--       request), reason
-- Reply requests set aside
-- Cost  O(requests * log(leases))
-- @use entry
-- @use letters
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
redis.call('ZCARD', KEYS[5])
redis.call('HDEL', KEYS[4], '') -- runs above maxmemory too
local done = 0
for i = 5, #ARGV, 3 do
  local id = ARGV[i]
  local owner = redis.call('ZSCORE', KEYS[1], id)
  if owner and tonumber(owner) == tonumber(ARGV[1]) then
    local entry = redis.call('HGET', KEYS[2], id)
    if entry then
      local _, deaths, claims, payload = read_entry(entry)
      if has_room(KEYS[3], ARGV[3]) then
        local most = ARGV[4] + (ARGV[i + 1] == 'seed' and 1 or 0) -- the mark of a seed
        write_letter(KEYS[3], payload:sub(1, most), ARGV[i + 2], ARGV[2], deaths + 1,
          claims, ARGV[i + 1])
      else
        keep_failed(KEYS[5], id, deaths, claims, payload)
      end
    end
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZREM', KEYS[1], id)
    done = done + 1
  end
end
redis.call('HSET', KEYS[4], 'active', now)
return done
