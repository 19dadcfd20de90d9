-- Store what a worker produced, then acknowledge what it has finished.
--
-- KEYS  1 requests (zset)  2 dupefilter (set)  3 leases (zset)  4 leased (hash)
--       5 workers (zset)  6 state (hash)  7 started (set)  8… keys of items (list)
-- ARGV  1 worker number  2 number of this commit  3 '1': newest first (LIFO)
--       4 requests  5 items  6 acks, then
--       requests: fingerprint ('' = do not filter, '!…' = a start request, to be taken
--       once per crawl), score, payload
--       items: index of their key in KEYS, data        acks: order id
-- Reply outcome (1 done, 2 was done before, 0 unknown worker, -1 an earlier commit is
--       missing), acks that were not this worker's, positions of filtered requests
-- Cost  O(requests * log(pending) + items + acks * log(leases))
local worker, number = ARGV[1], tonumber(ARGV[2])
local requests, items, acks = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
for _, key in ipairs({KEYS[1], KEYS[3]}) do
  redis.call('ZCARD', key)
end
redis.call('SCARD', KEYS[2])
redis.call('HLEN', KEYS[4])
redis.call('SCARD', KEYS[7])
for i = 8, #KEYS do
  redis.call('LLEN', KEYS[i])
end
if not redis.call('ZSCORE', KEYS[5], worker) then
  return {0, 0}
end
local stored = tonumber(redis.call('HGET', KEYS[6], 'commit:' .. worker) or -1)
if stored >= number then
  return {2, 0}
elseif stored ~= number - 1 then
  return {-1, 0}
end
local now = redis.call('TIME')
now = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
if requests == 0 and items == 0 then
  redis.call('HDEL', KEYS[6], '') -- acks go on above maxmemory
end

local reply = {1, 0}
local fingerprints, seen, started = {}, {}, {}
for i = 1, requests do
  local fingerprint = ARGV[4 + 3 * i]
  if fingerprint:byte(1) == 33 then -- '!'
    seen[fingerprint] = redis.call('SISMEMBER', KEYS[7], fingerprint:sub(2)) == 1
  elseif fingerprint ~= '' then
    fingerprints[#fingerprints + 1] = fingerprint
  end
end
if #fingerprints > 0 then
  local known = redis.call('SMISMEMBER', KEYS[2], unpack(fingerprints))
  for i, fingerprint in ipairs(fingerprints) do
    seen[fingerprint] = known[i] == 1
  end
end
local fresh, members, new = {}, {}, {}
for i = 1, requests do
  local fingerprint = ARGV[4 + 3 * i]
  if seen[fingerprint] then
    reply[#reply + 1] = i - 1
  else
    fresh[#fresh + 1] = i
    if fingerprint ~= '' then
      seen[fingerprint] = true
      if fingerprint:byte(1) == 33 then
        fingerprint = fingerprint:sub(2)
        started[#started + 1] = fingerprint
        seen[fingerprint] = true
      end
      new[#new + 1] = fingerprint
    end
  end
end
if #fresh > 0 then
  local order = redis.call('HINCRBY', KEYS[6], 'order', #fresh) - #fresh
  for i, at in ipairs(fresh) do
    local id = ARGV[3] == '1' and 9007199254740991 - order - i or order + i
    members[#members + 1] = ARGV[5 + 3 * at]
    members[#members + 1] = string.format('%016x', id) .. ARGV[6 + 3 * at]
  end
  redis.call('ZADD', KEYS[1], unpack(members))
end
if #new > 0 then
  redis.call('SADD', KEYS[2], unpack(new))
end
if #started > 0 then
  redis.call('SADD', KEYS[7], unpack(started))
end

local at = 6 + 3 * requests
for i = 1, items do
  redis.call('RPUSH', KEYS[tonumber(ARGV[at + 2 * i - 1])], ARGV[at + 2 * i])
end
redis.call('HSET', KEYS[6], 'commit:' .. worker, ARGV[2], 'active', now)

if acks > 0 then
  local first = at + 2 * items + 1
  local ids = {unpack(ARGV, first, first + acks - 1)}
  local owners = redis.call('ZMSCORE', KEYS[3], unpack(ids))
  local done = {}
  for i, id in ipairs(ids) do
    if owners[i] and tonumber(owners[i]) == tonumber(worker) then
      done[#done + 1] = id
    end
  end
  reply[2] = acks - #done
  if #done > 0 then
    redis.call('HDEL', KEYS[4], unpack(done))
    redis.call('ZREM', KEYS[3], unpack(done))
  end
end
return reply
