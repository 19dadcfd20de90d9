-- Begin or end a copy of the frontier: what is handed out meanwhile is noted for it.
--
-- KEYS  state (hash)
-- ARGV  name: of the copy, hex digits  ends: '1': it ends, '0': it begins, perhaps again
-- Reply 1 if what is handed out is noted: 0 where there is no frontier yet, or Redis lets
--       nobody write; order counter
-- Cost  O(notes that nobody collected)
-- @use clock
-- @use copies
local order = redis.call('HGET', state, 'order') or '0'
if redis.call('EXISTS', state) == 0 or not is_writable() then
  return {0, order}
end
renew_copy(name, now_ms(), ends == '1')
return {1 - ends, order}
