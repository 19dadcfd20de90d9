-- Bring lines of an exported frontier in, and note how far the file has come.
--
-- KEYS  requests (zset)  suspects (zset)  state (hash)  started (set)  failed (stream)
--       stats (hash)  items (list)  seed_keys*: (list, set or zset)
-- ARGV  space: newest first (LIFO): more than the requests of the file, else 0
--       file: its name  before: lines before these  after: lines with these, or 'end'
--       entries*: of each: its key, by the name above or as the number of a key of seeds
--       (from 1), command ('request': under a new order id), number of its arguments,
--       arguments (of 'request': score, what follows the order id)
-- Reply 1 done, 0 was done before, -1 it is not this file that is being brought in
-- Cost  O(entries * log(pending))
-- @use clock
-- @use order
local now = now_ms()
local mark = redis.call('HGET', state, 'import')
if not mark and redis.call('HGET', state, 'imported') == file then
  return 0 -- all of it, by another import of the same file
end
local name, lines, top = (mark or file .. ' 0 0'):match('^(%S+) (%d+) (%d+)$')
if name ~= file or tonumber(lines) < tonumber(before) then
  return -1
elseif tonumber(lines) > tonumber(before) then
  return 0
end
local order = order_at(redis.call('HGET', state, 'order'), now)
space = tonumber(space)
if space > 0 and tonumber(top) == 0 then
  -- The file begins with what goes first, the newest: the top of a space of its own.
  order = order + space
  top = order
end
redis.call('HSET', state, 'order', order + entries_count, 'active', now)
local keys = {requests = requests, suspects = suspects, started = started, failed = failed,
  stats = stats, items = items}
local at = entries_at + 1
while at < #ARGV do
  local key = keys[ARGV[at]] or KEYS[seed_keys_at + ARGV[at]]
  local command, n = ARGV[at + 1], ARGV[at + 2]
  local args = {unpack(ARGV, at + 3, at + 2 + n)}
  if command == 'request' then
    order = order + 1
    local id = order_id(order, '0')
    if space > 0 then
      id = order_id(top, '1')
      top = top - 1
    end
    redis.call('ZADD', key, args[1], id .. args[2])
  elseif command == 'XADD' then
    redis.call('XADD', key, '*', unpack(args))
  else
    redis.call(command, key, unpack(args))
  end
  at = at + 3 + n
end
if after == 'end' then
  redis.call('HSET', state, 'imported', name)
  redis.call('HDEL', state, 'import')
else
  redis.call('HSET', state, 'import', name .. ' ' .. after .. string.format(' %.0f', top))
end
return 1
