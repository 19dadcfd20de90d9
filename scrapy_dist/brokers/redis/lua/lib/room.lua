-- Whether S:failed takes one more letter.
-- @needs failed failed_limit

local function has_room()
  return redis.call('XLEN', failed) < tonumber(failed_limit)
end
