-- Dead letters: the one way in which scripts write them.
--
-- A letter is never pushed out, because its request is nowhere else. What fails while
-- S:failed is full stays with the suspects, behind all others: its score is +inf, and
-- lease.lua hands out none of those. readmit.lua takes them up when there is room.
-- @use clock
-- @use suspects
-- @needs failed failed_limit

local function has_room()
  return redis.call('XLEN', failed) < tonumber(failed_limit)
end

-- *claims* are of the entry ('-': none): who puts the letter back gives them back, so that
-- what was kept on behalf of the request may be followed once more. *kind* 'seed' or
-- 'request'; nil: the payload tells.
local function write_letter(payload, reason, worker, deliveries, claims, kind)
  kind = kind or (payload:byte() == 0 and 'seed' or 'request')
  redis.call('XADD', failed, '*',
    'payload', kind == 'seed' and payload:sub(2) or payload, 'reason', reason,
    'worker', worker, 'deliveries', deliveries, 'time', now_ms(), 'kind', kind,
    unpack(claims ~= '-' and {'claims', claims} or {}))
end

-- Write a letter of *entry*, as `read_entry` takes it apart, of *most* bytes of the payload,
-- or keep the whole; true: it is a letter.
local function set_aside(entry, reason, worker, deliveries, kind, most)
  local slot, deaths, claims, rank, payload = unpack(entry)
  if has_room() then
    write_letter(payload:sub(1, most or -1), reason, worker, deliveries, claims, kind)
    return true
  end
  put_suspect('+inf', slot, rank, deaths, claims, payload)
  return false
end

local function died_of(deaths)
  return deaths .. ' workers died while they worked on it'
end
