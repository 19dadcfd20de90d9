-- Set aside, as a dead letter, what came from elsewhere and can be no seed.
--
-- What comes once more, as who had it died before it said so there, is known by the letter
-- that it has, for a while: no key remembers it.
--
-- KEYS  failed (stream)  suspects (zset)  tasks (hash)  tasks_ended (zset)
-- ARGV  seed: as it came  reason: why  worker_name: for people
--       failed_limit: most dead letters
--       source: what names it where it comes from  again: '1': it came before
--       recent_ms: for which a letter is looked for
-- Reply 1; 0: there is no room for one more
-- Cost  O(1); again: O(letters of that while), 1000 and about 8 MB of them at the most
-- @use dead_letters
local now = now_ms()

-- Whether the letter *fields* came by this message; and the bytes of its payload.
local function has_source(fields)
  local found, size = false, 0
  for n = 1, #fields, 2 do
    size = size + #fields[n + 1]
    found = found or fields[n] == 'source' and fields[n + 1] == source
  end
  return found, size
end

local function is_known()
  local last, looked, size = '+', 0, 0
  local oldest = string.format('%.0f', now - recent_ms)
  while looked < 1000 and size < 8388608 do
    local letters = redis.call('XREVRANGE', failed, last, oldest, 'COUNT', 20)
    for _, letter in ipairs(letters) do
      local found, bytes = has_source(letter[2])
      if found then
        return true
      end
      size = size + bytes
    end
    if #letters < 20 then
      return false
    end
    -- Redis 6.2 has it.
    looked, last = looked + #letters, '(' .. letters[#letters][1]
  end
end

if again == '1' and is_known() then
  return 1
end
if not has_room() then
  return 0
end
write_letter('\0' .. seed, reason, worker_name, 0, '-', 'seed', nil, source)
store_tasks(now)
return 1
