-- Move requests of scrapy-redis over, each if it is still there.
--
-- KEYS  requests (zset)  seen (set)  state (hash)
--       old (zset or list: scrapy-redis' queue, may be the first of KEYS)  slots (zset)
--       resting (zset)
-- ARGV  newest_first: '1' (LIFO)  format: of a frontier that is new
--       found*: of each request: how scrapy-redis has it, its fingerprint ('' = none), score
--       as in a rank, slot, payload
-- Reply requests moved
-- Cost  O(requests * log(pending)), O(requests * their distance from the end of a list)
-- @use order
-- @use kinds
-- @use pending
local is_list, now, moved = kind_of(old) == 'list', now_ms(), 0
local order = order_at(redis.call('HGET', state, 'order'), now)
redis.call('HSET', state, 'order', order + found_count, 'active', now)
redis.call('HSETNX', state, 'format', format)
for i = found_at + 1, #ARGV, 5 do
  local data, fingerprint = ARGV[i], ARGV[i + 1]
  local is_there
  if is_list then
    is_there = redis.call('LPOS', old, data, 'RANK', -1)
  else
    is_there = redis.call('ZSCORE', old, data)
  end
  if is_there then
    order, moved = order + 1, moved + 1
    local rank = ARGV[i + 2] .. order_id(order, newest_first)
    put_pending({ARGV[i + 3], rank .. ARGV[i + 4]})
    if fingerprint ~= '' then
      redis.call('SADD', seen, fingerprint)
    end
    if is_list then
      redis.call('LREM', old, -1, data)
    else
      redis.call('ZREM', old, data)
    end
  end
end
return moved
