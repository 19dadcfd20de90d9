-- Entries of S:leased, see lease.lua: ' score deaths claims id payload', or only
-- 'id payload' in one where the score is 0 and nothing has happened to the request.

-- Score, deaths and claims as text, payload.
local function read_entry(entry)
  if entry:byte() ~= 32 then
    return '0', '0', '-', entry:sub(17)
  end
  local score, deaths, claims, at = entry:match('^ (%S+) (%d+) (%S+) ()')
  if not at then -- none of ours
    return '0', '0', '-', entry
  end
  return score, deaths, claims, entry:sub(at + 16)
end

-- Whether *entry* has the form of what is kept under *id*.
local function is_entry(entry, id)
  local at = entry:match('^ %S+ %d+ %S+ ()') or 1
  return entry:sub(at, at + 15) == id
end
