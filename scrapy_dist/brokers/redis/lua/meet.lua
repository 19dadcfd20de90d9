-- A worker says which process it is, and learns of the workers on its machine.
--
-- KEYS  workers (zset)  state (hash)
-- ARGV  worker: its number  machine: boot id, pid namespace, …  process: its own there
-- Reply how often workers have come, then the number and the process of each other worker
--       of that machine (<= 100)
-- Cost  O(workers, 1000 at the most)
local call = redis.call
local mine, field = machine .. ' ' .. process, 'process:' .. worker
-- Before it has registered it only asks.
if call('HGET', state, field) ~= mine and call('ZSCORE', workers, worker) then
  call('HDEL', state, '') -- runs above maxmemory too
  call('HSET', state, field, mine)
  call('HINCRBY', state, 'met', 1)
end
local reply = {tonumber(call('HGET', state, 'met') or 0)}
local numbers, fields = call('ZRANGE', workers, '0', '999'), {}
for i, number in ipairs(numbers) do
  fields[i] = 'process:' .. number
end
local found = #fields > 0 and call('HMGET', state, unpack(fields)) or {}
for i, number in ipairs(numbers) do
  local other = found[i]
  if other and number ~= worker and other:sub(1, #machine + 1) == machine .. ' ' then
    reply[#reply + 1] = number
    reply[#reply + 1] = other:sub(#machine + 2, #machine + 65)
    if #reply > 200 then
      break
    end
  end
end
return reply
