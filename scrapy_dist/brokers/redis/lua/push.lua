-- Append items of a process that has no leases.
--
-- KEYS  item_keys*: (list)
-- ARGV  items*: of each: number of its key, data
-- Reply items appended
-- Cost  O(items)
for _, key in ipairs(KEYS) do
  redis.call('LLEN', key)
end
for i = items_at + 1, #ARGV, 2 do
  redis.call('RPUSH', KEYS[item_keys_at + ARGV[i]], ARGV[i + 1])
end
return items_count / 2
