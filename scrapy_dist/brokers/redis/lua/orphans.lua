-- Find what is leased and has no lease: a page of the payloads, which stay here.
--
-- KEYS  leases (zset)  leased (hash)
-- ARGV  cursor: of HSCAN  most: entries in a page, about
-- Reply next cursor, then for each orphan: order id, entry up to its payload (see
--       lib/entry.lua), '' or, of one that has another form, SHA-1 of all of it in hex
-- Cost  O(bytes of a page)
-- @use entry
local page = redis.call('HSCAN', leased, cursor, 'COUNT', most)
local reply, entries = {page[1]}, page[2]
for i = 1, #entries, 2 do
  local id, entry = entries[i], entries[i + 1]
  if not redis.call('ZSCORE', leases, id) then
    local at = is_entry(entry, id)
    reply[#reply + 1] = id
    reply[#reply + 1] = entry:sub(1, math.min((at or 1) + 23, 65536))
    reply[#reply + 1] = at and '' or redis.sha1hex(entry)
  end
end
return reply
