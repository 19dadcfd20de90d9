-- Put dead letters back: requests to the pending ones, seeds to a key of seeds.
--
-- KEYS  1 requests (zset)  2 failed (stream)  3 state (hash)
--       4 key of seeds (list, set or zset), if there is one
-- ARGV  1 '1': newest first (LIFO)  2 'list', 'set' or 'zset': the key of seeds to make
--       if there is none, then for each letter (<= 100): id, score (of a seed: priority)
-- Reply for each letter 1 (put back) or 0 (there is no such letter, or it is a seed and
--       there is no key of seeds)
-- Cost  O(letters * log(pending))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[1])
redis.call('XLEN', KEYS[2])
local order = tonumber(redis.call('HGET', KEYS[3], 'order') or 0)
local sizes = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
local seeds_in = KEYS[4] and redis.call('TYPE', KEYS[4])
seeds_in = seeds_in and (seeds_in.ok or seeds_in)
if seeds_in == 'none' then
  seeds_in = ARGV[2]
elseif seeds_in and not sizes[seeds_in] then
  return redis.error_reply('WRONGTYPE ' .. KEYS[4] .. ' is a ' .. seeds_in
    .. '; seeds are read from a list, a set or a sorted set')
end
-- See commit.lua: an order id never comes again.
order = math.max(order, (now - 1735689600000) * 1024)
local reply, ids, members, seeds = {}, {}, {}, {}
for i = 3, #ARGV, 2 do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  local fields = {}
  for n = 1, letter and #letter[2] or 0, 2 do
    fields[letter[2][n]] = letter[2][n + 1]
  end
  local seed = fields.kind == 'seed'
  local back = fields.payload and (seeds_in or not seed)
  reply[#reply + 1] = back and 1 or 0
  if back then
    ids[#ids + 1] = ARGV[i]
    if not seed then
      order = order + 1
      local id = ARGV[1] == '1' and 9007199254740991 - order or order
      members[#members + 1] = ARGV[i + 1]
      members[#members + 1] = string.format('%016x', id) .. fields.payload
    else
      if seeds_in == 'zset' then
        seeds[#seeds + 1] = ARGV[i + 1]
      end
      seeds[#seeds + 1] = fields.payload
    end
  end
end
if #ids == 0 then
  return reply
end
redis.call('HSET', KEYS[3], 'order', string.format('%.0f', order),
  'active', string.format('%.0f', now))
redis.call('HDEL', KEYS[3], 'finished')
if #members > 0 then
  redis.call('ZADD', KEYS[1], unpack(members))
end
if #seeds > 0 then
  local push = {list = 'RPUSH', set = 'SADD', zset = 'ZADD'}
  redis.call(push[seeds_in], KEYS[4], unpack(seeds))
end
redis.call('XDEL', KEYS[2], unpack(ids))
return reply
