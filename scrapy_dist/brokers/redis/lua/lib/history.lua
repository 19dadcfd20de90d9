-- @use clock
-- @needs history state failed

-- Add a record of the crawl to the newest 100, each kept for a day. A state without a crawl
-- is none.
local function write_record(ended, reason)
  local facts = redis.call('HMGET', state, 'crawl', 'pages', 'items', 'joined', 'letters')
  if not facts[1] then
    return
  end
  local letters = redis.call('XLEN', failed) - (tonumber(facts[5] or nil) or 0)
  redis.call('XADD', history, 'MAXLEN', 100, '*', 'crawl', facts[1],
    'start', facts[1]:match('^%d+'), 'end', ended,
    'reason', reason, 'pages', facts[2] or 0, 'items', facts[3] or 0,
    'failed', math.max(0, letters), 'workers', facts[4] or 0)
  redis.call('XTRIM', history, 'MINID', now_ms() - 86400000)
  redis.call('EXPIRE', history, 86400)
end
