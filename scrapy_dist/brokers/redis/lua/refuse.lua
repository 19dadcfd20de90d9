-- Set aside, as a dead letter, what came from elsewhere and can be no seed.
--
-- KEYS  failed (stream)  suspects (zset)  tasks (hash)  tasks_ended (zset)
-- ARGV  seed: as it came  reason: why  worker_name: for people
--       failed_limit: most dead letters
-- Reply 1; 0: there is no room for one more
-- Cost  O(1)
-- @use dead_letters
if not has_room() then
  return 0
end
write_letter('\0' .. seed, reason, worker_name, 0, '-', 'seed')
store_tasks(now_ms())
return 1
