-- What is kept of a worker.
-- @needs workers state control

-- Those of S:state.
local function fields_of(worker)
  return {'worker:' .. worker, 'commit:' .. worker, 'since:' .. worker, 'beat:' .. worker,
    'strange:' .. worker, 'round:' .. worker, 'process:' .. worker, 'format:' .. worker}
end

local function forget_worker(worker)
  redis.call('HDEL', state, unpack(fields_of(worker)))
  redis.call('HDEL', control, 'stop:' .. worker, 'busy:' .. worker)
  redis.call('ZREM', workers, worker)
end

-- How many have a request in hand that no lease stands for: one of start() that stays in its
-- worker. They say so by their heartbeats; those that are gone do not count.
local function busy_workers()
  local count = 0
  for _, field in ipairs(redis.call('HKEYS', control)) do
    local worker = field:match('^busy:(.*)')
    if worker and redis.call('ZSCORE', workers, worker) then
      count = count + 1
    end
  end
  return count
end
