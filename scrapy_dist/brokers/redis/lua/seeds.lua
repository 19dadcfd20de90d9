-- Lease seeds, a fair share at most: from the left of a list, any of a set, the highest
-- of a sorted set.
--
-- KEYS  1 leases (zset)  2 leased (hash)  3 workers (zset)  4 state (hash)
--       5 control (hash)  6… keys of seeds, in order of priority
-- ARGV  1 worker number  2 most seeds (<= 100)
--       3 ms of silence after which a worker is dead  4 bytes of the largest seed
--       5 bytes of seeds after which it is enough
-- Reply known (0: register first), seeds left, then for each lease: order id, seed; of
--       one that is too large, which stays here, its number of bytes
-- Cost  O(seeds per call * log(leases))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local left, leases = 0, redis.call('ZCARD', KEYS[1])
redis.call('HLEN', KEYS[2])
local reads = {
  list = function(key, n) return redis.call('LRANGE', key, 0, n - 1) end,
  set = function(key, n) return redis.call('SRANDMEMBER', key, n) end,
  zset = function(key, n) return redis.call('ZREVRANGE', key, 0, n - 1) end,
}
local removes = {
  -- By value, not by number: a torn file may be played twice.
  list = function(key, seeds)
    for _, seed in ipairs(seeds) do
      redis.call('LREM', key, 1, seed)
    end
  end,
  set = function(key, seeds) redis.call('SREM', key, unpack(seeds)) end,
  zset = function(key, seeds) redis.call('ZREM', key, unpack(seeds)) end,
}
local sizes = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
local types = {}
for i = 6, #KEYS do
  local kind = redis.call('TYPE', KEYS[i])
  kind = kind.ok or kind
  if kind ~= 'none' and not reads[kind] then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind
      .. '; seeds are read from a list, a set or a sorted set')
  end
  types[i] = reads[kind] and kind
  left = left + (reads[kind] and redis.call(sizes[kind], KEYS[i]) or 0)
end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  return {0, 0}
end
local reply, want = {1, left}, tonumber(ARGV[2])
local largest, bytes, limit = tonumber(ARGV[4]), 0, tonumber(ARGV[5])
if redis.call('HGET', KEYS[5], 'paused') then
  want = 0
elseif left > 0 then
  local alive = math.max(1, redis.call('ZCOUNT', KEYS[3], '(' .. now - ARGV[3], '+inf'))
  local held = redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
  want = math.min(want, math.max(0, math.ceil((left + leases) / alive) - held))
end
for i = 6, #KEYS do
  local kind = types[i]
  if kind then
    -- Some at first: a few may be as large as a whole call may be.
    local step = 4
    while want > 0 and bytes < limit do
      local seeds = reads[kind](KEYS[i], math.min(want, step))
      step = 4 * step
      if #seeds == 0 then
        break
      end
      redis.call('HDEL', KEYS[4], '') -- runs above maxmemory too
      -- See commit.lua.
      local order = tonumber(redis.call('HGET', KEYS[4], 'order') or 0)
      order = math.max(order, (now - 1735689600000) * 1024)
      local last = string.format('%.0f', order + #seeds)
      -- The second is for views/snapshot.py, see lease.lua.
      redis.call('HSET', KEYS[4], 'order', last, 'handed:' .. ARGV[1], last)
      local entries, owners = {}, {}
      for n, seed in ipairs(seeds) do
        local id = string.format('%016x', order + n)
        entries[2 * n - 1], entries[2 * n] = id, id .. '\0' .. seed
        owners[2 * n - 1], owners[2 * n] = ARGV[1], id
        reply[#reply + 1] = id
        reply[#reply + 1] = #seed > largest and #seed or seed
        bytes = bytes + #seed
      end
      redis.call('HSET', KEYS[2], unpack(entries))
      redis.call('ZADD', KEYS[1], unpack(owners))
      redis.call('HSET', KEYS[4], 'active', string.format('%.0f', now))
      removes[kind](KEYS[i], seeds)
      want = want - #seeds
      reply[2] = reply[2] - #seeds
    end
  end
end
return reply
