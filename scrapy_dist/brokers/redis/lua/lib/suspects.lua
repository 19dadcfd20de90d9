-- Where a request goes that is taken out of S:leased and not done.
-- @use entry
-- @needs suspects

-- *score* 0 or, if it waits for room among the dead letters, '+inf'.
local function put_suspect(score, slot, rank, deaths, claims, payload)
  redis.call('ZADD', suspects, score,
    rank .. deaths .. ' ' .. claims .. ' ' .. slot .. ' ' .. payload)
end
