-- Bring lines of an exported frontier in, and note how far the file has come.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 state (hash)  4 started (set)
--       5 failed (stream)  6 stats (hash)  7 items (list)  8… keys of seeds
-- ARGV  1 newest first (LIFO): more than the requests of the file, else 0
--       2 name of the file  3 lines before these  4 lines with these, or 'end'
--       then for each entry: index of its key in KEYS, command ('request': under a new order id), number of
--       its arguments, arguments (of 'request': score, what follows the order id)
-- Reply 1 done, 0 was done before, -1 it is not this file that is being brought in
-- Cost  O(entries * log(pending))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
redis.call('SCARD', KEYS[4])
redis.call('XLEN', KEYS[5])
redis.call('HLEN', KEYS[6])
redis.call('LLEN', KEYS[7])
local mark = redis.call('HGET', KEYS[3], 'import')
if not mark and redis.call('HGET', KEYS[3], 'imported') == ARGV[2] then
  -- All of it, by another import of the same file.
  return 0
end
local name, lines, top = (mark or ARGV[2] .. ' 0 0'):match('^(%S+) (%d+) (%d+)$')
if name ~= ARGV[2] or tonumber(lines) < tonumber(ARGV[3]) then
  return -1
elseif tonumber(lines) > tonumber(ARGV[3]) then
  return 0
end
-- See commit.lua.
local order = tonumber(redis.call('HGET', KEYS[3], 'order') or 0)
order = math.max(order, (now - 1735689600000) * 1024)
local space = tonumber(ARGV[1])
if space > 0 and tonumber(top) == 0 then
  -- The file begins with what goes first, the newest: the top of a space of its own.
  order = order + space
  top = order
end
redis.call('HSET', KEYS[3], 'order', string.format('%.0f', order + #ARGV),
  'active', string.format('%.0f', now))
local at = 5
while at < #ARGV do
  local key, command, n = KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2]
  local args = {unpack(ARGV, at + 3, at + 2 + n)}
  if command == 'request' then
    order = order + 1
    local id = order
    if space > 0 then
      id = 9007199254740991 - top
      top = top - 1
    end
    redis.call('ZADD', key, args[1], string.format('%016x', id) .. args[2])
  elseif command == 'XADD' then
    redis.call('XADD', key, '*', unpack(args))
  else
    redis.call(command, key, unpack(args))
  end
  at = at + 3 + n
end
if ARGV[4] == 'end' then
  redis.call('HSET', KEYS[3], 'imported', name)
  redis.call('HDEL', KEYS[3], 'import')
else
  redis.call('HSET', KEYS[3], 'import',
    name .. ' ' .. ARGV[4] .. string.format(' %.0f', top))
end
return 1
