-- Queue requests whatever was crawled before; their fingerprints stay, or become, known.
--
-- KEYS  requests (zset)  seen (set; a filter of the project's may keep anything there)
--       state (hash)  slots (zset)  resting (zset)
-- ARGV  newest_first: '1' (LIFO)  format: of a frontier that is new
--       new*: of each request (<= 100): fingerprint ('' = none), score as in a rank, slot,
--       payload
-- Reply requests queued
-- Cost  O(requests * log(pending))
-- @use order
-- @use kinds
-- @use pending
local kind, now = kind_of(seen), now_ms()
local is_ours = kind == 'set' or kind == 'none'
local order = order_at(redis.call('HGET', state, 'order'), now)
redis.call('HSET', state, 'order', order + new_count / 4, 'active', now)
redis.call('HSETNX', state, 'format', format)
local members, names = {}, {}
for i = new_at + 1, #ARGV, 4 do
  order = order + 1
  members[#members + 1] = ARGV[i + 2]
  members[#members + 1] = ARGV[i + 1] .. order_id(order, newest_first) .. ARGV[i + 3]
  if is_ours and ARGV[i] ~= '' then
    names[#names + 1] = ARGV[i]
  end
end
put_pending(members)
if #names > 0 then
  redis.call('SADD', seen, unpack(names))
end
return new_count / 4
