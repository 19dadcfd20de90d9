-- Put dead letters back: requests to the pending ones, seeds to a key of seeds.
--
-- One that has claimed fingerprints (see claim.lua) becomes a suspect, request or seed:
-- suspects keep claims.
--
-- KEYS  1 requests (zset)  2 failed (stream)  3 state (hash)  4 suspects (zset)
--       5 key of seeds (list, set or zset), if there is one
-- ARGV  1 '1': newest first (LIFO)  2 'list', 'set' or 'zset': the key of seeds to make
--       if there is none, then for each letter (<= 100): id, score (of a seed: priority),
--       payload ('': as it is)
-- Reply for each letter 1 (put back) or 0 (there is no such letter, or it is a seed and
--       there is no key of seeds)
-- Cost  O(letters * log(pending))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[1])
redis.call('XLEN', KEYS[2])
redis.call('ZCARD', KEYS[4])
local order = tonumber(redis.call('HGET', KEYS[3], 'order') or 0)
local sizes = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD'}
local seeds_in = KEYS[5] and redis.call('TYPE', KEYS[5])
seeds_in = seeds_in and (seeds_in.ok or seeds_in)
if seeds_in == 'none' then
  seeds_in = ARGV[2]
elseif seeds_in and not sizes[seeds_in] then
  return redis.error_reply('WRONGTYPE ' .. KEYS[5] .. ' is a ' .. seeds_in
    .. '; seeds are read from a list, a set or a sorted set')
end
-- See commit.lua: an order id never comes again.
order = math.max(order, (now - 1735689600000) * 1024)
local reply, ids, members, suspects, seeds = {}, {}, {}, {}, {}
for i = 3, #ARGV, 3 do
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
    local claims = fields.claims and fields.claims:match('^-?%x+$')
    if claims or not seed then
      order = order + 1
      local id = ARGV[1] == '1' and 9007199254740991 - order or order
      id = string.format('%016x', id)
      local payload = ARGV[i + 2] ~= '' and ARGV[i + 2] or fields.payload
      payload = seed and '\0' .. payload or payload
      local to = claims and suspects or members
      to[#to + 1] = seed and 0 or ARGV[i + 1]
      to[#to + 1] = claims and id .. '0 ' .. claims .. ' ' .. payload or id .. payload
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
if #suspects > 0 then
  redis.call('ZADD', KEYS[4], unpack(suspects))
end
if #seeds > 0 then
  local push = {list = 'RPUSH', set = 'SADD', zset = 'ZADD'}
  redis.call(push[seeds_in], KEYS[5], unpack(seeds))
end
redis.call('XDEL', KEYS[2], unpack(ids))
return reply
