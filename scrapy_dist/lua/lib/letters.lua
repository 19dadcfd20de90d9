-- Dead letters: the one way in which scripts write them.

-- *claims* are of the entry ('-': none): who puts the letter back gives them back, so that
-- what was kept on behalf of the request may be followed once more. *kind* 'seed' or
-- 'request'; nil: the payload tells.
local function write_letter(failed, most, payload, reason, worker, deliveries, claims, kind)
  local now = redis.call('TIME')
  kind = kind or (payload:byte() == 0 and 'seed' or 'request')
  redis.call('XADD', failed, 'MAXLEN', most, '*',
    'payload', kind == 'seed' and payload:sub(2) or payload, 'reason', reason,
    'worker', worker, 'deliveries', deliveries,
    'time', string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)),
    'kind', kind, unpack(claims ~= '-' and {'claims', claims} or {}))
end
