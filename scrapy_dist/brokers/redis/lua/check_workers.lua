-- Find what is left of workers that are not in the list, and names that are no worker's.
--
-- KEYS  1 workers (zset)  2 state (hash)  3 control (hash)
-- ARGV  1 '1': mend  2 ms of silence after which a worker is dead
--       (if no worker has told)  3… worker numbers (<= 100)
-- Reply workers alive, workers silent, then positions of the numbers that are no worker's
-- Cost  O(numbers + log(workers))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local ttl = redis.call('HGET', KEYS[2], 'ttl') or ARGV[2]
local alive = redis.call('ZCOUNT', KEYS[1], '(' .. now - ttl, '+inf')
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
local mend = ARGV[1] == '1'
if mend then
  redis.call('HDEL', KEYS[2], '') -- runs above maxmemory too
end
local reply = {alive, redis.call('ZCARD', KEYS[1]) - alive}
for i = 3, #ARGV do
  local name = ARGV[i]
  local traces = {'worker:' .. name, 'commit:' .. name, 'since:' .. name, 'beat:' .. name,
    'handed:' .. name, 'strange:' .. name, 'process:' .. name,
    'format:' .. name}
  local facts = redis.call('HMGET', KEYS[2], unpack(traces))
  local asked = redis.call('HMGET', KEYS[3], 'stop:' .. name, 'busy:' .. name)
  facts[#traces + 1] = asked[1] or asked[2]
  local listed = redis.call('ZSCORE', KEYS[1], name)
  local stray = false
  for at = 1, #traces + 1 do
    stray = stray or (not listed and facts[at])
  end
  -- Nobody could reap it, nor anybody whose turn is after it.
  local nonsense = listed and not name:find('^%d+$')
  if stray or nonsense then
    reply[#reply + 1] = i - 3
    if mend then
      redis.call('HDEL', KEYS[2], unpack(traces))
      redis.call('HDEL', KEYS[3], 'stop:' .. name, 'busy:' .. name)
      redis.call('ZREM', KEYS[1], name)
    end
  end
end
return reply
