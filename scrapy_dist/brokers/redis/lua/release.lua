-- Give leases back undone: to pending, or to the suspects where they came from there.
--
-- KEYS  1 requests (zset)  2 suspects (zset)  3 leases (zset)  4 leased (hash)
--       5 state (hash)
-- ARGV  1 worker number  2… order ids (<= 100)
-- Reply leases given back
-- Cost  O(ids * log(pending))
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
if #ARGV < 2 then
  return 0
end
local ids = {unpack(ARGV, 2)}
local owners = redis.call('ZMSCORE', KEYS[3], unpack(ids))
local entries = redis.call('HMGET', KEYS[4], unpack(ids))
redis.call('HDEL', KEYS[5], '') -- runs above maxmemory too
local sha1hex = redis.sha1hex
local done = {}
for i, id in ipairs(ids) do
  if owners[i] and tonumber(owners[i]) == tonumber(ARGV[1]) then
    done[#done + 1] = id
    local entry = entries[i]
    if entry then
      if entry:byte() ~= 32 then -- without a head, see lease.lua
        entry = ' 0 0 - ' .. entry
      end
      local score, deaths, claims, at = entry:match('^ (%S+) (%d+) (%S+) ()')
      if deaths == '0' and claims == '-' then
        local member = entry:sub(at)
        local kind = entry:byte(at + 16)
        -- What is no payload of ours may have got its order id from lease.lua.
        if kind ~= 0 and kind ~= 1 and sha1hex
            and sha1hex(member:sub(17)):sub(1, 16) == member:sub(1, 16) then
          member = member:sub(17)
        end
        redis.call('ZADD', KEYS[1], score, member)
      else
        local payload = entry:sub(at + 16) -- behind the order id
        redis.call('ZADD', KEYS[2], score, id .. deaths .. ' ' .. claims .. ' ' .. payload)
      end
    end
  end
end
if #done > 0 then
  redis.call('HSET', KEYS[5], 'active', string.format('%.0f', now))
  redis.call('HDEL', KEYS[4], unpack(done))
  redis.call('ZREM', KEYS[3], unpack(done))
end
return #done
