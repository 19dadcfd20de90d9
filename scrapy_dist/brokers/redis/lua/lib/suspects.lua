-- Where a request goes that is taken out of S:leased and not done.
-- @use entry
-- @needs suspects

local function put_suspect(score, id, deaths, claims, payload)
  redis.call('ZADD', suspects, score, id .. deaths .. ' ' .. claims .. ' ' .. payload)
end
