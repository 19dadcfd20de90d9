-- Queue requests whatever was crawled before; their fingerprints stay, or become, known.
--
-- KEYS  1 requests (zset)  2 dupefilter (set)  3 state (hash)
-- ARGV  1 '1': newest first (LIFO), then for each request: fingerprint ('' = none),
--       score, payload
-- Reply requests queued
-- Cost  O(requests * log(pending))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[1])
-- A filter of the project's may keep anything there.
local kind = redis.call('TYPE', KEYS[2])
kind = kind.ok or kind
local ours = kind == 'set' or kind == 'none'
local count = (#ARGV - 1) / 3
-- See commit.lua.
local order = tonumber(redis.call('HGET', KEYS[3], 'order') or 0)
order = math.max(order, (now - 1735689600000) * 1024)
redis.call('HSET', KEYS[3], 'order', string.format('%.0f', order + count),
  'active', string.format('%.0f', now))
for i = 1, count do
  local fingerprint, score, payload = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  local id = ARGV[1] == '1' and 9007199254740991 - order - i or order + i
  redis.call('ZADD', KEYS[1], score, string.format('%016x', id) .. payload)
  if ours and fingerprint ~= '' then
    redis.call('SADD', KEYS[2], fingerprint)
  end
end
return count
