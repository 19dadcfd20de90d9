-- Push seeds that are tasks, each in one moment with its record.
--
-- KEYS  seed_key (list, set or zset: seeds)  tasks (hash)  results (hash)
--       tasks_ended (zset)
-- ARGV  seeds_as: 'list', 'set' or 'zset': the key of seeds to make if there is none
--       on_duplicate: 'refuse', 'join' or 'restart', if a task with its id lives; 'reuse':
--       join it, also if it has ended
--       new*: of each task (<= 100): id, token, batch ('' = none), priority, seed
-- Reply for each 1 (submitted), 2 (refused), 3 (joined), 4 (submitted, and the one that lived
--       was cancelled)
-- Cost  O(tasks * log(seeds))
-- @use clock
-- @use keeping
-- @use kinds
-- @use tasks
local book = task_book()
local now, kind, reply, seeds, ids = now_ms(), kind_of(seed_key), {}, {}, {}
if not select(2, count_seeds(seed_key)) then
  return no_seeds_in(seed_key)
end
kind = kind == 'none' and seeds_as or kind
local newest = {}
for i = new_at + 1, #ARGV, 5 do
  local id, token, batch, priority, seed = unpack(ARGV, i, i + 4)
  local known = newest[id] or select(2, book.newest(id))
  local task = known and book.task(known)
  newest[id] = known
  if known == token and task then
    reply[#reply + 1] = 1 -- the reply was lost
  elseif task and on_duplicate == 'reuse' then
    reply[#reply + 1] = 3
  elseif book.is_living(task) and on_duplicate ~= 'restart' then
    reply[#reply + 1] = on_duplicate == 'join' and 3 or 2
  else
    reply[#reply + 1] = book.is_living(task) and 4 or 1
    if book.is_living(task) then
      book.count(known, 0, 0, 0)
      book.move(known, task, 'c', now)
    end
    newest[id] = token
    book.add(token, id, batch, 'q', now)
    ids[#ids + 1], ids[#ids + 2] = 'i:' .. id, token
    if kind == 'zset' then
      seeds[#seeds + 1] = priority
    end
    seeds[#seeds + 1] = seed
  end
end
if #ids > 0 then
  -- A seed without its record makes one when it begins.
  local push = {list = 'RPUSH', set = 'SADD', zset = 'ZADD'}
  redis.call(push[kind], seed_key, unpack(seeds))
  store_tasks(now)
  redis.call('HSET', tasks, unpack(ids))
end
keep_tasks()
return reply
