-- Set leased requests aside as dead letters; what finds no room stays a suspect.
--
-- KEYS  leases (zset)  leased (hash)  failed (stream)  state (hash)  suspects (zset)
--       tasks (hash)  tasks_ended (zset)
-- ARGV  worker: its number  worker_name: for people  failed_limit: most dead letters
--       max_size: most bytes kept of a payload
--       rejects*: of each request: order id, kind ('seed' or 'request'), reason
-- Reply requests set aside
-- Cost  O(requests * log(leases))
-- @use dead_letters
redis.call('HDEL', state, '') -- runs above maxmemory too
local done = 0
for i = rejects_at + 1, #ARGV, 3 do
  local id, kind = ARGV[i], ARGV[i + 1]
  local owner = redis.call('ZSCORE', leases, id)
  if owner and tonumber(owner) == tonumber(worker) then
    local entry = redis.call('HGET', leased, id)
    if entry then
      local fields = {read_entry(entry, id)}
      set_aside(fields, ARGV[i + 2], worker_name, fields[2] + 1, kind, max_size)
    end
    redis.call('HDEL', leased, id)
    redis.call('ZREM', leases, id)
    done = done + 1
  end
end
local now = now_ms()
redis.call('HSET', state, 'active', now)
store_tasks(now)
return done
