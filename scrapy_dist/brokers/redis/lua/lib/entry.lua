-- How a request is kept.
--
-- Pending: its score in S:requests is the number of its slot, its member is its rank and its
-- payload. The rank sorts the requests of a slot: 8 bytes of the score that its discipline
-- gives it (see layout.py), then its order id. In S:leased, under the order id: 'slot deaths
-- claims ', rank, payload. A suspect: rank, 'deaths claims slot ', payload; its score is 0 or,
-- if it has failed and waits for room, +inf. Deaths of workers that held it; claims: see
-- claim.lua, '-' for none.

-- Whether a rank begins at *at* in *text*.
local function has_rank(text, at)
  return text:find('^........%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x', at)
end

-- The rank of score 0 of what has order id *id*.
local function first_rank(id)
  return '\128' .. ('\0'):rep(7) .. id
end

-- The number of a slot, as Redis can read it again: mostly an integer, but what is none of
-- ours may have any score.
local function is_slot(text)
  return text:find('^%d+$')
    or text:find('^[-+]?[%d.]+e?[-+]?%d*$') and tonumber(text) or text:find('^[-+]?inf$')
end

-- Slot, deaths and claims as text, rank, payload. What is none of ours is a payload.
-- @rarely
local function read_entry(entry, id)
  local slot, deaths, claims, at = entry:match('^(%S+) (%d+) (%S+) ()')
  if not at or not is_slot(slot) or not has_rank(entry, at) then
    return '0', '0', '-', first_rank(id), entry
  end
  return slot, deaths, claims, entry:sub(at, at + 23), entry:sub(at + 24)
end

-- Whether *entry* has the form of what is kept under *id*; where its rank begins.
local function is_entry(entry, id)
  local slot, at = entry:match('^(%S+) %d+ %S+ ()')
  return at and is_slot(slot) and has_rank(entry, at) and entry:sub(at + 8, at + 23) == id
    and at
end

-- Deaths, claims and slot as text, rank, payload.
local function read_suspect(member)
  local deaths, claims, slot, at = member:match('^(%d+) (%S+) (%S+) ()', 25)
  if not at or not is_slot(slot) then
    return deaths or '0', claims or '-', '0', member:sub(1, 24), member:sub(at or 25)
  end
  return deaths, claims, slot, member:sub(1, 24), member:sub(at)
end
