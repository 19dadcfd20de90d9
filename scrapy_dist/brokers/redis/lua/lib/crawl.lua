-- All of a crawl, for those who join it and leave it.
-- @use fingerprints
-- @needs requests suspects leases leased workers state stats started control slots resting politeness

-- Requests that somebody has to work on.
local function count_left()
  return redis.call('ZCARD', requests) + redis.call('ZCARD', suspects)
    + math.max(redis.call('ZCARD', leases), redis.call('HLEN', leased))
end

local function delete_crawl()
  delete_fingerprints()
  redis.call('UNLINK', workers, state, requests, suspects, leases, leased, stats, started,
    control, slots, resting, politeness)
end
