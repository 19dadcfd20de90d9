-- Find what is leased and has no lease: a page of the payloads, which stay here.
--
-- KEYS  leases (zset)  leased (hash)
-- ARGV  cursor: of HSCAN  most: entries in a page, about
-- Reply next cursor, then for each orphan: order id, entry up to its payload (see
--       lib/entry.lua), '' or, of one that has another form, SHA-1 of all of it in hex
-- Cost  O(bytes of a page)
local page = redis.call('HSCAN', leased, cursor, 'COUNT', most)
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
  if not redis.call('ZSCORE', leases, id) then
    local at = start_of(entry)
    local has_form = id:match(hex) and entry:sub(at, at + 15) == id
    reply[#reply + 1] = id
    reply[#reply + 1] = entry:sub(1, math.min(at + 15, 65536))
    reply[#reply + 1] = has_form and '' or redis.sha1hex(entry)
  end
end
return reply
