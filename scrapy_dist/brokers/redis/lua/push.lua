-- Append items of a process that has no leases.
--
-- KEYS  keys of items (list)
-- ARGV  for each item: index of its key in KEYS, data
-- Reply items appended
-- Cost  O(items)
for _, key in ipairs(KEYS) do
  redis.call('LLEN', key)
end
for i = 1, #ARGV, 2 do
  redis.call('RPUSH', KEYS[tonumber(ARGV[i])], ARGV[i + 1])
end
return #ARGV / 2
