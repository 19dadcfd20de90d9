-- End the conversion of an older format, if nothing of it is left: see upgrade.py.
--
-- Each change has left a mark of its own. If the last one is still that from before somebody
-- has looked at everything and found nothing to change, there is nothing: also if Redis has
-- gone back to an older state in between.
--
-- KEYS  workers (zset)  state (hash)  control (hash)
-- ARGV  mark: of the last change, as upgrade_begin.lua told it
-- Reply 1: it has ended; 0: look once more; -1: it has ended, or Redis does not know of it
-- Cost  O(workers)
-- @use workers
local found = redis.call('HGET', state, 'upgrade')
if found ~= mark then
  return found and 0 or -1
end
redis.call('HDEL', state, 'upgrade')
-- What is left of workers of the older version.
for _, field in ipairs(redis.call('HKEYS', state)) do
  local number = field:match('^worker:(.*)')
  if number and not redis.call('ZSCORE', workers, number) then
    forget_worker(number)
    redis.call('HDEL', state, 'handed:' .. number) -- only older versions have that
  end
end
return 1
