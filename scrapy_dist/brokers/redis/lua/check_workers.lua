-- Find what is left of workers that are not in the list, and names that are no worker's.
--
-- KEYS  workers (zset)  state (hash)  control (hash)
-- ARGV  mend: '1' or '0'  ttl_ms: of silence after which a worker is dead, if no worker has
--       told  numbers*: of workers (<= 100)
-- Reply workers alive, workers silent, then positions of the numbers that are no worker's
-- Cost  O(numbers + log(workers))
-- @use clock
-- @use alive
-- @use workers
local alive = alive_workers(now_ms())
if mend == '1' then
  redis.call('HDEL', state, '') -- runs above maxmemory too
end
local reply = {alive, redis.call('ZCARD', workers) - alive}
for i = 1, numbers_count do
  local number = ARGV[numbers_at + i]
  local listed = redis.call('ZSCORE', workers, number)
  -- Nobody could reap it, nor anybody whose turn is after it.
  local is_wrong = listed and not number:find('^%d+$')
  if not listed then
    local asked = redis.call('HMGET', control, 'stop:' .. number, 'busy:' .. number)
    is_wrong = asked[1] or asked[2]
    for _, field in ipairs(fields_of(number)) do
      is_wrong = is_wrong or redis.call('HEXISTS', state, field) == 1
    end
  end
  if is_wrong then
    reply[#reply + 1] = i - 1
    if mend == '1' then
      forget_worker(number)
    end
  end
end
return reply
