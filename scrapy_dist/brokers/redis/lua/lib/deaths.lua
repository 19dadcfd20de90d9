-- @use dead_letters
-- @needs max_deliveries

-- The worker died that held *entry*: it is a suspect, or has failed; true: a dead letter.
local function count_death(id, entry, worker)
  local slot, deaths, claims, rank, payload = read_entry(entry, id)
  deaths = deaths + 1
  if deaths >= tonumber(max_deliveries) then
    return set_aside({slot, deaths, claims, rank, payload}, died_of(deaths), worker, deaths)
  end
  put_suspect(0, slot, rank, deaths, claims, payload)
  return false
end
