-- @use suspects
-- @needs requests

-- Put what S:leased has under *id* where it came from; true: among the pending requests.
local function give_back(id, entry)
  local score, deaths, claims, payload, member = read_entry(entry)
  if deaths ~= '0' or claims ~= '-' then
    put_suspect(score, id, deaths, claims, payload)
    return false
  end
  local kind = payload:byte()
  -- What is no payload of ours may have got its order id from lease.lua.
  if kind ~= 0 and kind ~= 1 and redis.sha1hex
      and redis.sha1hex(payload):sub(1, 16) == member:sub(1, 16) then
    member = payload
  end
  redis.call('ZADD', requests, score, member)
  return true
end
