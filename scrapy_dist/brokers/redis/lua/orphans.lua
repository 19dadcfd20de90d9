-- Find what is leased and has no lease: a page of the payloads, which stay here.
--
-- KEYS  1 leases (zset)  2 leased (hash)
-- ARGV  1 cursor  2 entries in a page, about
-- Reply next cursor, then for each orphan: order id, entry up to its payload (see lease.lua),
--       '' or, of one that has another form, SHA-1 of all of it in hex
-- Cost  O(bytes of a page)
redis.call('ZCARD', KEYS[1])
local page = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', ARGV[2])
local reply, entries = {page[1]}, page[2]
local hex = '^' .. ('%x'):rep(16) .. '$'
local function start_of(entry) -- of the order id in it
  local score, at = entry:match('^ ([-+%.%de]+) %d+ %S+ ()')
  if not score then
    score, at = entry:match('^ ([-+]?inf) %d+ %S+ ()')
  end
  return score and tonumber(score) and at or 1
end
for i = 1, #entries, 2 do
  local id, entry = entries[i], entries[i + 1]
  if not redis.call('ZSCORE', KEYS[1], id) then
    local at = start_of(entry)
    local has_form = id:match(hex) and entry:sub(at, at + 15) == id
    reply[#reply + 1] = id
    reply[#reply + 1] = entry:sub(1, math.min(at + 15, 65536))
    reply[#reply + 1] = has_form and '' or redis.sha1hex(entry)
  end
end
return reply
