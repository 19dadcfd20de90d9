-- Notes of what is handed out while somebody copies the frontier, see views/snapshot.py.
--
-- The field 'copies' of S:state has 'name:until:count:bytes ' of each who does: the ms when
-- nobody believes in it any more, and how many notes of how many bytes wait to be collected.
-- A note, in the field 'copy:NAME:NUMBER', is what one call has handed out: of each lease the
-- length of what S:leased has of it, a space, its order id, and that. Who collects none for
-- a minute, or lets 4,000 of them wait, or 8 MB, is given up.
-- @needs state

-- Whether Redis lets somebody write; above maxmemory too.
local function is_writable()
  local reply = redis.pcall('HDEL', state, '')
  return type(reply) ~= 'table' or not reply.err
end

-- Of a word of that field: name, until, count, bytes.
local function read_copy(word)
  local name, till, count, bytes = word:match('^(%x+):(%d+):(%d+):(%d+)$')
  return name, tonumber(till or 0), tonumber(count or 0), tonumber(bytes or 0)
end

local function write_copy(name, till, count, bytes)
  return string.format('%s:%.0f:%d:%d ', name, till, count, bytes)
end

local function notes_of(name, count)
  local fields = {}
  for i = 1, count do
    fields[i] = 'copy:' .. name .. ':' .. i
  end
  return fields
end

local function forget_notes(name, count)
  if count > 0 then
    redis.call('HDEL', state, unpack(notes_of(name, count)))
  end
end

-- Note *entries*, order ids and what S:leased has of each, for all of *copies*, which is not
-- false: *fields* of S:state to be set, and their values, become more.
-- @rarely
-- @here
local function note_handed(copies, entries, now, fields)
  local parts, kept = {}, ''
  for i = 1, #entries, 2 do
    parts[#parts + 1] = #entries[i + 1] .. ' ' .. entries[i] .. entries[i + 1]
  end
  local text = table.concat(parts)
  for word in copies:gmatch('%S+') do
    local name, till, count, bytes = read_copy(word)
    if now > till or count >= 4000 or bytes >= 8000000 then
      forget_notes(name, count)
    else
      kept = kept .. write_copy(name, till, count + 1, bytes + #text)
      fields[#fields + 1] = 'copy:' .. name .. ':' .. count + 1
      fields[#fields + 1] = text
    end
  end
  fields[#fields + 1], fields[#fields + 2] = 'copies', kept
  if kept == '' then
    redis.call('HDEL', state, 'copies')
    fields[#fields], fields[#fields - 1] = nil, nil
  end
end

-- Note for *name* from now on, and no more what waits; with *ends* nothing any more.
local function renew_copy(name, now, ends)
  local kept = ''
  for word in (redis.call('HGET', state, 'copies') or ''):gmatch('%S+') do
    local other, till, count = read_copy(word)
    if other == name or now > till then
      forget_notes(other, count)
    else
      kept = kept .. word .. ' '
    end
  end
  if not ends then
    kept = kept .. write_copy(name, now + 60000, 0, 0)
  end
  if kept == '' then
    redis.call('HDEL', state, 'copies')
  else
    redis.call('HSET', state, 'copies', kept)
  end
end
