-- Begin the tasks whose seeds this worker holds: from now on what it holds is of them.
--
-- KEYS  leases (zset)  leased (hash)  tasks (hash)  tasks_ended (zset)  state (hash)
-- ARGV  worker: its number  worker_name: for people
--       begins*: of each seed (<= 100): order id, id, token, batch ('' = none), '1' if the
--       token is new, else '0'
-- Reply for each 1 (begun), 2 (refused: another one with its id lives, or it has ended),
--       3 (it was cancelled), 0 (the lease is not this worker's)
-- Cost  O(seeds * log(leases))
-- @use clock
-- @use entry
-- @use tasks
local book = task_book()
local now, reply, fields, ids = now_ms(), {}, {}, {}
redis.call('HDEL', state, '') -- runs above maxmemory too
local newest, gone = {}, {}
for i = begins_at + 1, #ARGV, 5 do
  local lease, id, token, batch, is_new = unpack(ARGV, i, i + 4)
  local owner = redis.call('ZSCORE', leases, lease)
  local entry = owner and tonumber(owner) == tonumber(worker) and redis.call('HGET', leased, lease)
  local outcome, task, slot, deaths, claims, rank, payload = 0, book.task(token), nil
  if entry then
    outcome = 1
    slot, deaths, claims, rank, payload = read_entry(entry, lease)
  end
  local begun = entry and task_of(payload)
  if begun and begun ~= token and is_new == '1' and book.task(begun) then
    -- The reply was lost, and the worker has made another token.
    book.records[token] = book.records[begun]
    book.count(token, 0, 0, 0)
    book.move(token, book.records[token], book.records[token].state, now)
    gone[#gone + 1] = begun
    ids[#ids + 1], ids[#ids + 2] = 'i:' .. id, token
    fields[#fields + 1], fields[#fields + 2] = lease, slot .. ' ' .. deaths .. ' ' .. claims
      .. ' ' .. rank .. '\4' .. token .. payload:sub(18)
  end
  if entry and not begun then
    local known = newest[id] or select(2, book.newest(id))
    local lives = known and known ~= token and book.is_living(book.task(known))
    if is_new == '1' and lives or task and not book.is_living(task) then
      outcome = task and task.state == 'c' and 3 or 2
    elseif task then
      -- It was counted when it was submitted, unless this is one more copy of its seed.
      book.count(token, task.state == 'q' and 0 or 1, 0, 0)
    else
      task = book.add(token, id, batch, 'r', now)
    end
    if outcome == 3 then
      book.count(token, -1, 0, 0)
    elseif outcome == 1 then
      if task.state == 'q' then
        book.move(token, task, 'r', now)
      end
      task.worker = task.worker == '' and worker_name:gsub('%c', ' ') or task.worker
      if not lives then
        newest[id] = token
        ids[#ids + 1], ids[#ids + 2] = 'i:' .. id, token
      end
      fields[#fields + 1], fields[#fields + 2] = lease,
        slot .. ' ' .. deaths .. ' ' .. claims .. ' ' .. rank .. '\4' .. token .. payload
    end
  end
  reply[#reply + 1] = outcome
end
if #fields > 0 then
  redis.call('HSET', leased, unpack(fields))
end
store_tasks(now)
if #ids > 0 then
  redis.call('HSET', tasks, unpack(ids))
end
for _, token in ipairs(gone) do
  redis.call('HDEL', tasks, 't:' .. token)
  redis.call('ZREM', tasks_ended, token)
end
return reply
