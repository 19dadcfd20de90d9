-- The end of a crawl: what is left besides requests, the record, the fingerprints.

-- Workers that have a request in hand that no lease stands for: one of start() that stays
-- in its worker. They say so by their beats; those that are gone do not count.
local function busy_workers(control, workers)
  local count = 0
  for _, field in ipairs(redis.call('HKEYS', control)) do
    local worker = field:match('^busy:(.*)')
    if worker and redis.call('ZSCORE', workers, worker) then
      count = count + 1
    end
  end
  return count
end

-- Add one record to the newest 100, each kept for a day. A state without a crawl is none.
local function write_record(history, state, failed, ended, reason)
  local facts = redis.call('HMGET', state, 'crawl', 'pages', 'items', 'joined', 'letters')
  if not facts[1] then
    return
  end
  local letters = redis.call('XLEN', failed) - (tonumber(facts[5] or nil) or 0)
  redis.call('XADD', history, 'MAXLEN', 100, '*', 'crawl', facts[1],
    'start', facts[1]:match('^%d+'), 'end', string.format('%.0f', ended),
    'reason', reason, 'pages', facts[2] or 0, 'items', facts[3] or 0,
    'failed', math.max(0, letters), 'workers', facts[4] or 0)
  local now = redis.call('TIME')
  redis.call('XTRIM', history, 'MINID', string.format('%.0f', (now[1] - 86400) * 1000))
  redis.call('EXPIRE', history, 86400)
end

-- Whether there is a record of *crawl*.
local function has_record(history, crawl)
  for _, record in ipairs(redis.call('XREVRANGE', history, '+', '-', 'COUNT', 100)) do
    for i = 1, #record[2], 2 do
      if record[2][i] == 'crawl' and record[2][i + 1] == crawl then
        return true
      end
    end
  end
  return false
end

-- The crawl that ended last, and when (ms); nothing if there is no record.
local function newest_record(history)
  for _, record in ipairs(redis.call('XREVRANGE', history, '+', '-', 'COUNT', 1)) do
    local fields = {}
    for i = 1, #record[2], 2 do
      fields[record[2][i]] = record[2][i + 1]
    end
    return fields.crawl, tonumber(fields['end'] or nil) or 0
  end
end

-- Delete the fingerprints. Buckets may be millions of keys: their name is noted, and they
-- are deleted some at a time (see Frontier.sweep).
local function delete_fingerprints(dupefilter)
  local kind = redis.call('TYPE', dupefilter)
  if (kind.ok or kind) ~= 'hash' then
    redis.call('UNLINK', dupefilter)
    return
  end
  local shape = redis.call('HMGET', dupefilter, 'epoch', 'buckets')
  if shape[1] then
    redis.call('HSET', dupefilter, 'old:' .. shape[1], shape[2])
    redis.call('HDEL', dupefilter, 'epoch', 'buckets', 'count')
  end
end
