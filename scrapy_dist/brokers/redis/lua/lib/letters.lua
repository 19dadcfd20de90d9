-- Dead letters: the one way in which scripts write them.
--
-- A letter is never pushed out, because its request is nowhere else. What fails while
-- S:failed is full stays with the suspects, behind all others: its score is +inf, and
-- lease.lua hands out none of those. readmit.lua takes them up when there is room.

local function has_room(failed, most)
  return redis.call('XLEN', failed) < tonumber(most)
end

-- *claims* are of the entry ('-': none): who puts the letter back gives them back, so that
-- what was kept on behalf of the request may be followed once more. *kind* 'seed' or
-- 'request'; nil: the payload tells.
local function write_letter(failed, payload, reason, worker, deliveries, claims, kind)
  local now = redis.call('TIME')
  kind = kind or (payload:byte() == 0 and 'seed' or 'request')
  redis.call('XADD', failed, '*',
    'payload', kind == 'seed' and payload:sub(2) or payload, 'reason', reason,
    'worker', worker, 'deliveries', deliveries,
    'time', string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)),
    'kind', kind, unpack(claims ~= '-' and {'claims', claims} or {}))
end

local function keep_failed(suspects, id, deaths, claims, payload)
  redis.call('ZADD', suspects, '+inf', id .. deaths .. ' ' .. claims .. ' ' .. payload)
end
