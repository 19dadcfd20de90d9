-- How requests were kept in the formats 1 to 3, which had no ranks: see upgrade.lua.
--
-- Pending: order id and payload, with the score that the discipline gave. In S:leased:
-- ' score deaths claims ', order id, payload; or order id and payload alone, if the score is 0
-- and nothing has happened to it. A suspect: order id, 'deaths claims ', payload; its score is
-- that of the discipline or +inf. A payload of ours does not begin with a hex digit, so the
-- order id of a rank, behind 8 bytes, tells the two apart.
-- @use entry

-- Whether *member* of S:requests or S:suspects is one of these.
local function is_older_member(member)
  return not has_rank(member) and member:find('^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x')
end

-- Deaths, claims and payload of *entry*, which S:leased has under *id*; nil: it is not one of
-- these.
local function read_older_entry(entry, id)
  if #id == 16 and entry:sub(1, 16) == id then
    return '0', '-', entry:sub(17)
  end
  local deaths, claims, at = entry:match('^ %S+ (%d+) (%S+) ()')
  if at and #id == 16 and entry:sub(at, at + 15) == id then
    return deaths, claims, entry:sub(at + 16)
  end
end
