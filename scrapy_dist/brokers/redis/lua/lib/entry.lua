-- How a request is kept in S:leased and among the suspects.
--
-- In S:leased: ' score deaths claims id payload', or only 'id payload' of one where the score
-- is 0 and nothing has happened to the request. A suspect: 'id' and 'deaths claims payload'.
-- Deaths of workers that held it; claims: see claim.lua, '-' for none.

-- Score, deaths and claims as text, payload, order id and payload. What is none of ours is a
-- payload.
local function read_entry(entry)
  if entry:byte() ~= 32 then
    return '0', '0', '-', entry:sub(17), entry
  end
  local score, deaths, claims, at = entry:match('^ (%S+) (%d+) (%S+) ()')
  if not at then
    return '0', '0', '-', entry, entry
  end
  return score, deaths, claims, entry:sub(at + 16), entry:sub(at)
end

-- Whether *entry* has the form of what is kept under *id*.
local function is_entry(entry, id)
  return select(5, read_entry(entry)):sub(1, 16) == id
end

-- Deaths and claims as text, payload.
local function read_suspect(member)
  local deaths, claims, at = member:match('^(%d+) (%S+) ()', 17)
  return deaths or '0', claims or '-', member:sub(at or 17)
end
