-- Lease seeds, a fair share at most: from the left of a list, any of a set, the highest
-- of a sorted set.
--
-- KEYS  leases (zset)  leased (hash)  workers (zset)  state (hash)  control (hash)
--       seed_keys*: in order of priority (list, set or zset)
-- ARGV  worker: its number  want: most seeds (<= 100)
--       ttl_ms: of silence after which a worker is dead  max_seed: bytes of the largest
--       reply_bytes: of seeds after which it is enough
-- Reply known (0: register first), seeds left, then for each lease: order id, seed; of
--       one that is too large, which stays here, its number of bytes
-- Cost  O(seeds per call * log(leases))
-- @use clock
-- @use order
-- @use kinds
-- @use entry
-- @use copies
local now, left, held = now_ms(), 0, redis.call('ZCARD', leases)
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
for i = seed_keys_at + 1, #KEYS do
  local count, is_right = count_seeds(KEYS[i])
  if not is_right then
    return no_seeds_in(KEYS[i])
  end
  left = left + count
end
if not redis.call('ZSCORE', workers, worker) then
  return {0, 0}
end
local reply, bytes = {1, left}, 0
want, max_seed, reply_bytes = tonumber(want), tonumber(max_seed), tonumber(reply_bytes)
if redis.call('HGET', control, 'paused') then
  want = 0
elseif left > 0 then
  local alive = math.max(1, redis.call('ZCOUNT', workers, '(' .. now - ttl_ms, '+inf'))
  local mine = redis.call('ZCOUNT', leases, worker, worker)
  want = math.min(want, math.max(0, math.ceil((left + held) / alive) - mine))
end
for i = seed_keys_at + 1, #KEYS do
  local kind = kind_of(KEYS[i])
  if kind ~= 'none' then
    -- Some at first: a few may be as large as a whole call may be.
    local step = 4
    while want > 0 and bytes < reply_bytes do
      local seeds = reads[kind](KEYS[i], math.min(want, step))
      step = 4 * step
      if #seeds == 0 then
        break
      end
      redis.call('HDEL', state, '') -- runs above maxmemory too
      local known = redis.call('HMGET', state, 'order', 'copies')
      local order = order_at(known[1], now)
      redis.call('HSET', state, 'order', order + #seeds)
      local entries, owners, fields = {}, {}, {'active', now}
      for n, seed in ipairs(seeds) do
        local id = order_id(order + n)
        entries[2 * n - 1], entries[2 * n] = id, '0 0 - ' .. first_rank(id) .. '\0' .. seed
        owners[2 * n - 1], owners[2 * n] = worker, id
        reply[#reply + 1] = id
        reply[#reply + 1] = #seed > max_seed and #seed or seed
        bytes = bytes + #seed
      end
      redis.call('HSET', leased, unpack(entries))
      redis.call('ZADD', leases, unpack(owners))
      if known[2] then
        note_handed(known[2], entries, now, fields)
      end
      redis.call('HSET', state, unpack(fields))
      removes[kind](KEYS[i], seeds)
      want = want - #seeds
      reply[2] = reply[2] - #seeds
    end
  end
end
return reply
