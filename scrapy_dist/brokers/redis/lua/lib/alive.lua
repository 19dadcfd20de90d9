-- @needs workers state ttl_ms

-- Workers that have beaten lately, and ms of silence after which one is dead: as the workers
-- have told, else *ttl_ms*.
local function alive_workers(now)
  local ttl = tonumber(redis.call('HGET', state, 'ttl') or ttl_ms)
  return redis.call('ZCOUNT', workers, '(' .. now - ttl, '+inf'), ttl
end
