-- @use suspects
-- @use pending

-- Put what S:leased has under *id* where it came from; true: among the pending requests.
local function give_back(id, entry)
  local slot, deaths, claims, rank, payload = read_entry(entry, id)
  if deaths ~= '0' or claims ~= '-' then
    put_suspect(0, slot, rank, deaths, claims, payload)
    return false
  end
  local kind, member = payload:byte(), rank .. payload
  -- What is no payload of ours may have got its order id from lease.lua.
  local is_ours = kind == 0 or kind == 1 or kind == 4
  if not is_ours and redis.sha1hex and redis.sha1hex(payload):sub(1, 16) == id then
    member = payload
  end
  put_pending({slot, member})
  return true
end
