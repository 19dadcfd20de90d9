-- The list of a reader of items: a mark, then what the reader has not acknowledged.
--
-- The mark is 'reader:' and whose list it is, ms of its last call, and, with spaces before
-- each, runs of names: 'word,first,count'. They name the items behind the mark, in order:
-- 'word-first', 'word-(first + 1)', … An item that comes again, to whichever reader, has
-- the name that it had. Words are random: who cannot know which names Redis has forgotten
-- begins a new one.
-- @needs taken

-- Whose list it is (nil: nobody's), when it was seen, and the runs.
local function read_mark(mark)
  local reader, seen, runs = nil, 0, {}
  if mark and mark:sub(1, 7) == 'reader:' then
    reader = mark:match('^reader:(%S*)')
    seen = tonumber(mark:match('^%S+ (%d+)')) or 0
    for word, first, count in mark:gmatch(' (%w+),(%d+),(%d+)') do
      runs[#runs + 1] = {word, tonumber(first), tonumber(count)}
    end
  end
  return reader, seen, runs
end

local function to_mark(reader, seen, runs)
  local parts = {string.format('reader:%s %.0f', reader, seen)}
  for i, run in ipairs(runs) do
    if run[3] > 0 or i == #runs then
      parts[#parts + 1] = string.format('%s,%.0f,%.0f', unpack(run))
    end
  end
  return table.concat(parts, ' ')
end

-- Take the first *count* names off the runs.
local function drop_names(runs, count)
  for _, run in ipairs(runs) do
    local less = math.min(run[3], count)
    run[2], run[3], count = run[2] + less, run[3] - less, count - less
  end
end

local function count_names(runs)
  local count = 0
  for _, run in ipairs(runs) do
    count = count + run[3]
  end
  return count
end
