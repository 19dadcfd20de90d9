-- Give leases back undone: to pending, or to the suspects where they came from there. What
-- is of a task that was cancelled goes.
--
-- KEYS  requests (zset)  suspects (zset)  leases (zset)  leased (hash)  state (hash)
--       slots (zset)  resting (zset)  tasks (hash)  tasks_ended (zset)
-- ARGV  worker: its number  ids*: order ids (<= 100)
-- Reply leases given back
-- Cost  O(ids * log(pending))
-- @use give_back
-- @use tasks
if ids_count == 0 then
  return 0
end
local ids = {unpack(ARGV, ids_at + 1)}
local owners = redis.call('ZMSCORE', leases, unpack(ids))
local entries = redis.call('HMGET', leased, unpack(ids))
redis.call('HDEL', state, '') -- runs above maxmemory too
local done = {}
for i, id in ipairs(ids) do
  if owners[i] and tonumber(owners[i]) == tonumber(worker) then
    done[#done + 1] = id
    local token = entries[i] and task_of((select(5, read_entry(entries[i], id))))
    if token and task_book().is_cancelled(token) then
      task_book().count(token, -1, 0, 0)
    elseif entries[i] then
      give_back(id, entries[i])
    end
  end
end
if #done > 0 then
  redis.call('HSET', state, 'active', now_ms())
  redis.call('HDEL', leased, unpack(done))
  redis.call('ZREM', leases, unpack(done))
  store_tasks(now_ms())
end
return #done
