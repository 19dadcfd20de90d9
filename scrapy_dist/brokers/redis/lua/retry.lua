-- Put dead letters back: requests to the pending ones, seeds to a key of seeds.
--
-- One that has claimed fingerprints (see claim.lua) becomes a suspect, request or seed:
-- suspects keep claims. One of a task is left to do of it again, which runs again, also if it
-- was cancelled; a seed of a task that has begun is no seed to be taken, but pending.
--
-- KEYS  requests (zset)  failed (stream)  state (hash)  suspects (zset)  slots (zset)
--       resting (zset)  tasks (hash)  tasks_ended (zset)
--       seed_keys*: the first is the one of seeds, if there is one (list, set or zset)
-- ARGV  newest_first: '1' (LIFO)  format: of a frontier that is new
--       seeds_as: 'list', 'set' or 'zset': the key of seeds to make if there is none
--       letters*: of each (<= 100): id, score as in a rank (priority of a seed), slot,
--       payload ('': as it is)
-- Reply for each letter 1 (put back) or 0 (there is no such letter, or it is a seed and
--       there is no key of seeds)
-- Cost  O(letters * log(pending))
-- @use order
-- @use pending
-- @use suspects
-- @use kinds
-- @use tasks
local seed_key, now = KEYS[seed_keys_at + 1], now_ms()
local kind = seed_key and kind_of(seed_key)
if kind == 'none' then
  kind = seeds_as
elseif kind and not select(2, count_seeds(seed_key)) then
  return no_seeds_in(seed_key)
end
local order = order_at(redis.call('HGET', state, 'order'), now)
local reply, ids, pending, claimed, seeds = {}, {}, {}, {}, {}
for i = letters_at + 1, #ARGV, 4 do
  local letter = redis.call('XRANGE', failed, ARGV[i], ARGV[i])[1]
  local fields = {}
  for n = 1, letter and #letter[2] or 0, 2 do
    fields[letter[2][n]] = letter[2][n + 1]
  end
  local is_seed = fields.kind == 'seed'
  local back = fields.payload and (kind or not is_seed)
  reply[#reply + 1] = back and 1 or 0
  if back then
    ids[#ids + 1] = ARGV[i]
    local claims = fields.claims and fields.claims:match('^-?%x+$')
    local task = task_of('\4' .. (fields.task or ''))
    if task then
      task_book().count(task, 1, 0, -1)
      task_book().revive(task, now)
    end
    if claims or task or not is_seed then
      order = order + 1
      local id, slot = order_id(order, newest_first), ARGV[i + 2]
      local rank = is_seed and first_rank(id) or ARGV[i + 1] .. id
      local payload = ARGV[i + 3] ~= '' and ARGV[i + 3] or fields.payload
      payload = (task and '\4' .. task or '') .. (is_seed and '\0' or '') .. payload
      if claims then
        claimed[#claimed + 1] = {slot, rank, '0', claims, payload}
      else
        pending[#pending + 1], pending[#pending + 2] = slot, rank .. payload
      end
    else
      if kind == 'zset' then
        seeds[#seeds + 1] = ARGV[i + 1]
      end
      seeds[#seeds + 1] = fields.payload
    end
  end
end
if #ids == 0 then
  return reply
end
redis.call('HSET', state, 'order', order, 'active', now)
redis.call('HSETNX', state, 'format', format)
redis.call('HDEL', state, 'finished')
store_tasks(now)
put_pending(pending)
for _, suspect in ipairs(claimed) do
  put_suspect(0, unpack(suspect))
end
if #seeds > 0 then
  local push = {list = 'RPUSH', set = 'SADD', zset = 'ZADD'}
  redis.call(push[kind], seed_key, unpack(seeds))
end
redis.call('XDEL', failed, unpack(ids))
return reply
