-- Bring lines of an exported frontier in, and note how far the file has come.
--
-- KEYS  requests (zset)  suspects (zset)  state (hash)  started (set)  failed (stream)
--       stats (hash)  items (list)  slots (zset)  resting (zset)  tasks (hash)
--       tasks_ended (zset)  results (hash)
--       seed_keys*: (list, set or zset)
-- ARGV  format: of a frontier that is new
--       space: newest first (LIFO): more than the requests of the file, else 0
--       file: its name  before: lines before these  after: lines with these, or 'end'
--       entries*: of each: its key, by the name above or as the number of a key of seeds
--       (from 1), command ('request': under a new order id), number of its arguments,
--       arguments (of 'request': score as in a rank, slot, payload, and of a suspect score
--       there, deaths, claims; of 'task': its token, its record as of one of which nothing
--       is left to do but its seed, '1' if it is the newest of its id; of
--       'result': token of its task, which is there, number, item)
-- Reply 1 done, 0 was done before, -1 it is not this file that is being brought in
-- Cost  O(entries * log(pending))
-- @use order
-- @use pending
-- @use suspects
-- @use tasks
local now = now_ms()
local mark = redis.call('HGET', state, 'import')
if not mark and redis.call('HGET', state, 'imported') == file then
  return 0 -- all of it, by another import of the same file
end
local file_known, lines, top = (mark or file .. ' 0 0'):match('^(%S+) (%d+) (%d+)$')
if file_known ~= file or tonumber(lines) < tonumber(before) then
  return -1
elseif tonumber(lines) > tonumber(before) then
  return 0
end
local order = order_at(redis.call('HGET', state, 'order'), now)
space = tonumber(space)
if space > 0 and tonumber(top) == 0 then
  -- The file begins with what goes first, the newest: the top of a space of its own.
  order = order + space
  top = order
end
redis.call('HSET', state, 'order', order + entries_count, 'active', now)
redis.call('HSETNX', state, 'format', format)
local keys = {started = started, failed = failed, stats = stats, items = items}
local at, pending = entries_at + 1, {}
while at < #ARGV do
  local name, command, n = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local args = {unpack(ARGV, at + 3, at + 2 + n)}
  if command == 'request' then
    order = order + 1
    local id = order_id(order, '0')
    if space > 0 then
      id = order_id(top, '1')
      top = top - 1
    end
    local rank, slot, payload = args[1] .. id, args[2], args[3]
    task_book().count(task_of(payload), 1, 0, 0)
    if name == 'suspects' then
      put_suspect(args[4], slot, rank, args[5], args[6], payload)
    else
      pending[#pending + 1], pending[#pending + 2] = slot, rank .. payload
    end
  elseif command == 'task' then
    local token, book = args[1], task_book()
    local task = book.parse(args[2])
    if task and not book.task(token) then
      local kept = task.state
      task.state, book.records[token] = nil, task
      book.count(token, 0, 0, 0)
      book.move(token, task, kept, tonumber(task.ended))
      if args[3] == '1' then
        redis.call('HSETNX', tasks, 'i:' .. task.id, token)
      end
    end
  elseif command == 'result' then
    local task = task_book().task(args[1])
    if task and tonumber(args[2]) <= task.items then
      redis.call('HSET', results, args[1] .. ' ' .. args[2], args[3])
    end
  else
    local key = keys[name] or KEYS[seed_keys_at + name]
    if command == 'XADD' then
      redis.call('XADD', key, '*', unpack(args))
    else
      redis.call(command, key, unpack(args))
    end
  end
  at = at + 3 + n
end
store_tasks(now)
put_pending(pending)
if after == 'end' then
  redis.call('HSET', state, 'imported', file)
  redis.call('HDEL', state, 'import')
else
  redis.call('HSET', state, 'import', file .. ' ' .. after .. string.format(' %.0f', top))
end
return 1
