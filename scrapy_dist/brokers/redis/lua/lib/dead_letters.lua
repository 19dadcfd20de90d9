-- Dead letters: the one way in which scripts write them.
--
-- A letter is never pushed out, because its request is nowhere else. What fails while
-- S:failed is full stays with the suspects, behind all others: its score is +inf, and
-- lease.lua hands out none of those. readmit.lua takes them up when there is room.
-- A letter of a task ends what was left to do of it: the script calls `store_tasks` behind
-- all that it removes.
-- @use clock
-- @use room
-- @use suspects
-- @use tasks
-- @needs failed

-- *claims* are of the entry ('-': none): who puts the letter back gives them back, so that
-- what was kept on behalf of the request may be followed once more. *kind* 'seed' or
-- 'request'; nil: the payload tells. *most*: bytes of the payload that are kept; nil: all.
-- *source*: what names the message that it came by; nil: it came by none.
local function write_letter(payload, reason, worker, deliveries, claims, kind, most, source)
  local task, more = task_of(payload), claims ~= '-' and {'claims', claims} or {}
  payload = task and payload:sub(18) or payload
  kind = kind or (payload:byte() == 0 and 'seed' or 'request')
  payload = kind == 'seed' and payload:sub(2) or payload
  task = task or kind == 'seed' and task_book().queued(payload)
  payload = payload:sub(1, most or -1)
  if task then
    more[#more + 1], more[#more + 2] = 'task', task
    task_book().count(task, -1, 0, 1, 0, reason)
  end
  if source then
    more[#more + 1], more[#more + 2] = 'source', source
  end
  redis.call('XADD', failed, '*', 'payload', payload, 'reason', reason,
    'worker', worker, 'deliveries', deliveries, 'time', now_ms(), 'kind', kind,
    unpack(more))
end

-- Write a letter of *entry*, as `read_entry` takes it apart, of *most* bytes of the payload,
-- or keep the whole; true: it is a letter.
-- @rarely
local function set_aside(entry, reason, worker, deliveries, kind, most)
  local slot, deaths, claims, rank, payload = unpack(entry)
  if has_room() then
    write_letter(payload, reason, worker, deliveries, claims, kind, most)
    return true
  end
  put_suspect('+inf', slot, rank, deaths, claims, payload)
  return false
end

local function died_of(deaths)
  return deaths .. ' workers died while they worked on it'
end
