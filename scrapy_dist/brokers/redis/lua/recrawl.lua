-- Queue requests whatever was crawled before; their fingerprints stay, or become, known.
--
-- KEYS  requests (zset)  seen (set; a filter of the project's may keep anything there)
--       state (hash)
-- ARGV  newest_first: '1' (LIFO)
--       new*: of each request: fingerprint ('' = none), score, payload
-- Reply requests queued
-- Cost  O(requests * log(pending))
-- @use clock
-- @use order
-- @use kinds
local kind, now = kind_of(seen), now_ms()
local is_ours = kind == 'set' or kind == 'none'
local order = order_at(redis.call('HGET', state, 'order'), now)
redis.call('HSET', state, 'order', order + new_count / 3, 'active', now)
for i = new_at + 1, #ARGV, 3 do
  order = order + 1
  redis.call('ZADD', requests, ARGV[i + 1], order_id(order, newest_first) .. ARGV[i + 2])
  if is_ours and ARGV[i] ~= '' then
    redis.call('SADD', seen, ARGV[i])
  end
end
return new_count / 3
