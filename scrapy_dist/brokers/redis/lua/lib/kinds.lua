-- Keys that may hold one of several types.

local function kind_of(key)
  local kind = redis.call('TYPE', key)
  return kind.ok or kind
end

-- Seeds in *key*, 0 where it holds something else; the second: false if it holds that.
local function count_seeds(key)
  local kind = kind_of(key)
  local size = ({list = 'LLEN', set = 'SCARD', zset = 'ZCARD'})[kind]
  return size and redis.call(size, key) or 0, size or kind == 'none'
end

local function no_seeds_in(key)
  return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. kind_of(key)
    .. '; seeds are read from a list, a set or a sorted set')
end
