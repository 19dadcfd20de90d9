-- What S:slots has of a seat that is taken: 2^52 and the number of its owner.

local function mark_of(owner)
  return 4503599627370496 + owner
end

-- Below all marks, as a limit of a range: times.
local function below_marks()
  return '(4503599627370496'
end
