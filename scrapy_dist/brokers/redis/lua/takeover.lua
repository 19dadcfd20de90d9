-- Move requests of scrapy-redis over, each if it is still there.
--
-- KEYS  1 requests (zset)  2 dupefilter (set)  3 state (hash)  4 scrapy-redis' queue (zset
--       or list, may be KEYS[1])
-- ARGV  1 '1': newest first (LIFO), then for each request: how scrapy-redis has it, its
--       fingerprint ('' = none), score, payload
-- Reply requests moved
-- Cost  O(requests * log(pending)), O(requests * their distance from the end of a list)
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[1])
redis.call('SCARD', KEYS[2])
local kind = redis.call('TYPE', KEYS[4])
local is_list = (kind.ok or kind) == 'list'
-- See commit.lua.
local order = tonumber(redis.call('HGET', KEYS[3], 'order') or 0)
order = math.max(order, (now - 1735689600000) * 1024)
redis.call('HSET', KEYS[3], 'order', string.format('%.0f', order + #ARGV),
  'active', string.format('%.0f', now))
local moved = 0
for i = 2, #ARGV, 4 do
  local old, fingerprint = ARGV[i], ARGV[i + 1]
  local is_there
  if is_list then
    is_there = redis.call('LPOS', KEYS[4], old, 'RANK', -1)
  else
    is_there = redis.call('ZSCORE', KEYS[4], old)
  end
  if is_there then
    order, moved = order + 1, moved + 1
    local id = ARGV[1] == '1' and 9007199254740991 - order or order
    redis.call('ZADD', KEYS[1], ARGV[i + 2], string.format('%016x', id) .. ARGV[i + 3])
    if fingerprint ~= '' then
      redis.call('SADD', KEYS[2], fingerprint)
    end
    if is_list then
      redis.call('LREM', KEYS[4], -1, old)
    else
      redis.call('ZREM', KEYS[4], old)
    end
  end
end
return moved
