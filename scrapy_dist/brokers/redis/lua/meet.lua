-- A worker says which process it is, and learns of the workers on its machine.
--
-- KEYS  1 workers (zset)  2 state (hash)
-- ARGV  1 worker number  2 machine (boot id, pid namespace, …)  3 its process there
-- Reply how often workers have come, then the number and the process of each other worker
--       of that machine (<= 100)
-- Cost  O(workers, 1000 at the most)
local call = redis.call
local mine, field = ARGV[2] .. ' ' .. ARGV[3], 'process:' .. ARGV[1]
local known = call('HGET', KEYS[2], field)
-- Before it has registered it only asks.
if known ~= mine and call('ZSCORE', KEYS[1], ARGV[1]) then
  call('HDEL', KEYS[2], '') -- runs above maxmemory too
  call('HSET', KEYS[2], field, mine)
  call('HINCRBY', KEYS[2], 'met', 1)
end
local reply = {tonumber(call('HGET', KEYS[2], 'met') or 0)}
local workers = call('ZRANGE', KEYS[1], '0', '999')
local fields = {}
for i, worker in ipairs(workers) do
  fields[i] = 'process:' .. worker
end
local found = #fields > 0 and call('HMGET', KEYS[2], unpack(fields)) or {}
local machine = ARGV[2] .. ' '
for i, worker in ipairs(workers) do
  local process = found[i]
  if process and worker ~= ARGV[1] and process:sub(1, #machine) == machine then
    reply[#reply + 1] = worker
    reply[#reply + 1] = process:sub(#machine + 1, #machine + 64)
    if #reply > 200 then
      break
    end
  end
end
return reply
