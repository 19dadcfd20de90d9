-- @use dead_letters
-- @needs max_deliveries

-- The worker died that held *entry*: it is a suspect, or has failed; true: a dead letter.
local function count_death(id, entry, worker)
  local score, deaths, claims, payload = read_entry(entry)
  deaths = deaths + 1
  if deaths >= tonumber(max_deliveries) then
    return set_aside(id, deaths, claims, payload, died_of(deaths), worker, deaths)
  end
  put_suspect(score, id, deaths, claims, payload)
  return false
end
