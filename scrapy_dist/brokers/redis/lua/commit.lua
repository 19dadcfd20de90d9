-- Store what a worker produced, then acknowledge what it has finished.
--
-- Verdicts on leases: '+' ack, '=' ack of a page that produced nothing, '-' none yet, the
-- lease is only asked for. What is part of a lease is stored only if the lease is still this
-- worker's.
--
-- KEYS  requests (zset)  dupefilter (set, or hash: see buckets.py)  leases (zset)
--       leased (hash)  workers (zset)  state (hash)  started (set)  failed (stream)
--       suspects (zset)  slots (zset)  resting (zset)  tasks (hash)  results (hash)
--       tasks_ended (zset)  item_keys*: (list)
--       buckets*: of each fingerprint of the requests its own and, where it may not be split
--       yet, the one it is split from (set)
-- ARGV  worker: its number  number: of this commit  newest_first: '1' (LIFO)
--       worker_name: for people
--       failed_limit: most dead letters (what fails above that stays a suspect)
--       epoch: of the buckets ('': dupefilter is a set)  known: how many buckets
--       split: one text of '-' for each fingerprint that has one key, and the number of its
--       bucket for each that has two ('' without buckets)
--       acks: leases with the verdict '+'  bare_acks: leases with the verdict '='
--       scores: the score of all requests, or of each, 8 bytes (see layout.py)
--       slot_numbers: the slot of all requests, or of each, with spaces between
--       extra: pages that end besides the leases (hops), less the leases that are no pages
--       payloads: of all requests in one  ends: where each begins, and the last one ends:
--       numbers of 4 bytes, the highest first (both '': they are in *apart*)
--       task_words: '' if nothing is of a task; else '1' if results are kept, or '0', and
--       of each lease 'token:pages' (pages: that end well with it) or '-', then of each
--       request that is part of none, or once if it is that of all, its token or '-'
--       ids: of the leases in one, 16 bytes each: those with '+' first, then those with '='
--       fingerprints: if all requests are of the first kind, with as many bytes each, these are
--       here, in one: that is cheaper  width: bytes of each, less than 0 if some are equal
--       verdicts*: of the other leases: '-' or the reason of a dead letter
--       names*: of each other request its fingerprint (else '!…' = a start request, to be taken
--       once per crawl; '!!…' = one that equals an earlier one of its start(): only the
--       others of its name filter it; '' = do not filter; '#n' = do not filter, part of
--       lease n; '@n size slot …' = was crawled already under lease n, which ends now: its
--       fingerprint of that size, then the reason if it is a dead letter)
--       pushes*: of each item: number of its key, lease that it is part of (0: none), data
--       apart*: payloads of the requests, if they are not in one
-- Reply outcome (1 done, 2 was done before, 3 Redis is full: only '=' were acknowledged,
--       4 the buckets are others: epoch, buckets and fingerprints follow, 0 unknown
--       worker, -1 an earlier commit is missing), leases that were not this worker's
--       (of an earlier try: 1 if there were any), buckets and fingerprints in them (0 for a
--       set), positions of filtered requests, from 0; of those whose task has ended
--       -1 - position
-- Cost  O(requests * log(pending) + items + leases * log(leases))
-- @use order
-- @use dead_letters
-- @use buckets
-- @use pending
-- @use tasks
-- @types are seen by what is read
local call, format, KEYS, ARGV = redis.call, string.format, KEYS, ARGV
acks, width = tonumber(acks), tonumber(width)
local are_distinct = width > 0
width = math.abs(width)
local simple, ids_count = acks + bare_acks, #ids / 16
local is_plain = width > 0
local request_count = is_plain and #fingerprints / width or names_count
-- Keys that may be written and that nothing below reads before that.
call('ZCARD', requests)
local rest = 0
if request_count > 0 then
  call('ZCARD', slots)
  rest = call('ZCARD', resting)
end
if ids_count > 0 then
  call('HLEN', leased)
end
for i = item_keys_at + 1, item_keys_at + item_keys_count do
  call('LLEN', KEYS[i])
end
if not call('ZSCORE', workers, worker) then
  return {0, 0}
end
local before = call('HMGET', state, 'commit:' .. worker, 'pages', 'order', 'items',
  'slots:seen', 'slots:shift')
local stored = tonumber(before[1] or -1)
if stored >= tonumber(number) then
  -- The reply was lost. That leases were not ours must not be: their parts were not taken.
  local not_owned = call('HGET', state, 'strange:' .. worker)
  return {2, not_owned and tonumber(not_owned) >= tonumber(number) and 1 or 0}
elseif stored ~= number - 1 then
  return {-1, 0}
end
local now = now_ms()

-- Asking for an owner costs more than asking what this worker holds: a number of 52 bits
-- is slow to print, and a small sorted set is searched from its beginning each time. What
-- ends is mostly among the oldest.
local held, lost, id_of, sub = {}, 0, {}, string.sub
for i = 1, ids_count do
  id_of[i] = sub(ids, 16 * i - 15, 16 * i)
end
if ids_count > 0 then
  local oldest = call('ZRANGEBYSCORE', leases, worker, worker,
    'LIMIT', '0', format('%d', 2 * ids_count))
  local at, count = 1, #oldest
  for i = 1, ids_count do
    local id = id_of[i]
    -- Both mostly are in the order of the ids, which is cheaper than a table of them.
    while at <= count and oldest[at] ~= id do
      at = at + 1
    end
    at = at + 1
  end
  if at > count + 1 then
    for i = 1, count do
      held[oldest[i]] = true
    end
    local others = {}
    for _, id in ipairs(id_of) do
      if not held[id] then
        others[#others + 1] = id
      end
    end
    for i, owner in ipairs(#others > 0 and call('ZMSCORE', leases, unpack(others)) or {}) do
      held[others[i]] = owner and tonumber(owner) == tonumber(worker)
      lost = lost + (held[others[i]] and 0 or 1)
    end
  else
    held = nil -- all of them
  end
end
local function is_ours(lease)
  return not held or held[id_of[tonumber(lease)]]
end

local reply, at = {1, lost, 0, 0}, names_at
-- Seen: 1 by position. Filtered: position of each fingerprint that is looked up.
local marks, looked_up, filtered, seen, count = {}, {}, {}, {}, 0
-- Hops: whether their lease is ours, their fingerprint, the reason of a dead letter, slot.
local hops, letters = {}, simple < ids_count
if is_plain then
  count = request_count
  for i = 1, count do
    looked_up[i] = sub(fingerprints, width * (i - 1) + 1, width * i)
  end
end
for i = 1, names_count do
  local fingerprint = ARGV[at + i]
  local mark = fingerprint:byte(1) or -1
  marks[i] = (mark == -1 or mark == 33 or mark == 35 or mark == 64) and mark -- '!' '#' '@'
  if mark == 64 then
    local lease, size, its_slot, from = fingerprint:match('^@(%d+) (%d+) (%d+) ()')
    fingerprint = fingerprint:sub(from, from + size - 1)
    local reason = ARGV[at + i]:sub(from + size)
    hops[i] = {is_ours(lease), fingerprint, reason, its_slot}
    letters = letters or reason ~= ''
    mark = size == '0' and -1 or mark
  end
  if mark ~= -1 and mark ~= 35 then
    if mark == 33 then
      fingerprint = fingerprint:sub(2)
      seen[i] = call('SISMEMBER', started, fingerprint)
    end
    if mark ~= 33 or fingerprint:byte(1) ~= 33 then
      count = count + 1
      looked_up[count], filtered[count] = fingerprint, i
    end
  end
end
if letters then
  call('XLEN', failed)
  call('ZCARD', suspects)
  task_book()
end
-- If something is of a task: whether the task of a request has ended (it was cancelled, or
-- another worker has done this page); count what is stored, and what ends.
local task_of_lease, is_dropped, count_fresh, count_ends
if task_words ~= '' then
  call('HLEN', results)
  local n, tokens, task_of_request, pages_of_lease, book = 0, {}, {}, {}, task_book()
  task_of_lease = {}
  for word in task_words:sub(2):gmatch('%S+') do
    n, tokens[#tokens + 1] = n + 1, word ~= '-' and word:sub(1, 16) or nil
    local its = n <= ids_count and task_of_lease or task_of_request
    its[n], pages_of_lease[n] = word ~= '-' and word:sub(1, 16) or nil, tonumber(word:sub(18))
  end
  book.read(tokens)
  local of_all = n == ids_count + 1 and task_of_request[n]
  local function task_of_name(i)
    if marks[i] == 35 then
      return task_of_lease[tonumber(ARGV[at + i]:sub(2))]
    end
    return of_all or task_of_request[ids_count + i]
  end
  function is_dropped(i)
    local task = book.records[task_of_name(i)]
    return task and not book.is_living(task)
  end
  function count_fresh(found, count)
    for i = 1, count do
      book.count(task_of_name(found[i]), 1, 0, 0)
    end
    book.store(now)
  end
  function count_ends(verdicts)
    for i, token in pairs(task_of_lease) do
      local verdict = i <= acks and '+' or i <= simple and '=' or ARGV[verdicts_at + i - simple]
      if is_ours(i) and verdict ~= '-' and (not verdicts or verdict == verdicts) then
        -- The dead letter of one that has failed counts itself.
        book.count(token, i <= simple and -1 or 0, pages_of_lease[i], 0)
      end
    end
  end
end
local bucket_of = {}
if count > 0 and epoch == '' then
  local found = call('SMISMEMBER', dupefilter, unpack(looked_up))
  if is_plain then
    seen = found
  end
  for n, i in ipairs(filtered) do
    seen[i] = marks[i] == 33 and seen[i] or found[n]
  end
elseif count > 0 then
  local their_epoch, buckets, fingerprint_count = read_shape()
  reply[3], reply[4] = buckets, fingerprint_count
  if their_epoch ~= epoch or not are_named(buckets, tonumber(known)) then
    return {4, their_epoch, buckets, fingerprint_count}
  end
  local n, at_key = 0, buckets_at + 1
  for bucket in split:gmatch('%S+') do
    n = n + 1
    local fingerprint, i, key = looked_up[n], filtered[n] or n, KEYS[at_key]
    if bucket ~= '-' then
      key = tonumber(bucket) < buckets and key or KEYS[at_key + 1]
      at_key = at_key + 1
    end
    at_key = at_key + 1
    bucket_of[fingerprint] = key
    if marks[i] ~= 33 then
      seen[i] = call('SISMEMBER', key, fingerprint)
    end
  end
end
local fresh, new, begun, followed, taken = {}, {}, {}, {}, {}
local fresh_count, new_count, duplicates, simply = 0, 0, 0, 0
if is_plain and not is_dropped then
  -- What follows, for those that have no mark.
  simply = request_count
  for i = 1, request_count do
    if seen[i] == 1 or not are_distinct and taken[looked_up[i]] then
      duplicates = duplicates + 1
      reply[4 + duplicates] = i - 1
    else
      fresh_count = fresh_count + 1
      fresh[fresh_count], new[fresh_count] = i, looked_up[i]
      if not are_distinct then
        taken[looked_up[i]] = true
      end
    end
  end
end
for i = simply + 1, request_count do
  local fingerprint, mark, hop = is_plain and looked_up[i] or ARGV[at + i], marks[i], hops[i]
  if hop then
    if hop[1] and hop[2] ~= '' then
      followed[#followed + 1] = hop[2]
    end
  elseif seen[i] == 1 or taken[fingerprint] then
    duplicates = duplicates + 1
    reply[4 + duplicates] = i - 1
  elseif is_dropped and is_dropped(i) then
    if mark ~= 35 then
      duplicates = duplicates + 1
      reply[4 + duplicates] = -i
    end
  elseif mark ~= 35 or is_ours(fingerprint:sub(2)) then
    fresh_count = fresh_count + 1
    fresh[fresh_count] = i
    if not mark or mark == 33 then
      taken[fingerprint] = true
      if mark then
        fingerprint = fingerprint:sub(2)
        begun[#begun + 1] = fingerprint
        taken[fingerprint] = true
      end
      if not mark or fingerprint:byte(1) ~= 33 then
        new_count = new_count + 1
        new[new_count] = fingerprint
      end
    end
  end
end
local function payload_of(n)
  if ends == '' then
    return ARGV[apart_at + n]
  end
  local a, b, c, d, e, f, g, h = ends:byte(4 * n - 3, 4 * n + 4)
  return payloads:sub(((a * 256 + b) * 256 + c) * 256 + d + 1,
    ((e * 256 + f) * 256 + g) * 256 + h)
end

local members, their_slots, is_newest_first, is_full = {}, {}, newest_first == '1', false
local order = order_at(before[3], now)
if fresh_count > 0 or pushes_count > 0 then
  -- Redis looks at its memory at the first write of a script only.
  local first = redis.pcall('HSET', state, 'order', format('%d', order + fresh_count))
  if type(first) == 'table' and first.err then
    if not first.err:find('OOM', 1, true) then
      return redis.error_reply(first.err)
    end
    call('HDEL', state, '')
    is_full, reply = true, {3, lost}
    fresh_count, pushes_count, letters = 0, 0, false
    new, begun, followed = {}, {}, {}
  end
  local digits = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd',
    'e', 'f'}
  local slots_of, slot_count, slot, last, put = {}, 0, slot_numbers, nil, {}
  if slot:find(' ', 1, true) then
    for number in slot:gmatch('%d+') do
      slot_count = slot_count + 1
      slots_of[slot_count] = number
    end
    slot_count = 0
  end
  local same, score, are_apart = #scores <= 8, scores, ends == ''
  local high, head
  for i = 1, fresh_count do
    local n = fresh[i]
    local id = is_newest_first and 9007199254740991 - order - i or order + i
    local low = id % 16
    if id - low ~= high then
      high = id - low
      head = format('%015x', high / 16)
    end
    slot = slots_of[n] or slot
    score = same and score or scores:sub(8 * n - 7, 8 * n)
    members[2 * i - 1] = slot
    members[2 * i] = score .. head .. digits[low]
      .. (are_apart and ARGV[apart_at + n] or payload_of(n))
    if slot ~= last and not put[slot] then
      last, put[slot], slot_count = slot, true, slot_count + 1
      their_slots[slot_count] = slot
    end
  end
else
  call('HDEL', state, '') -- acks go on above maxmemory
end
if count_fresh then
  count_fresh(fresh, fresh_count)
end
if fresh_count > 0 then
  add_slots(their_slots, (on_slot_clock(now, {before[5], before[6]})), rest)
  call('ZADD', requests, unpack(members))
  if rest > 0 then
    call('ZREM', resting, unpack(their_slots))
  end
end
local function see(new)
  if #new > 0 and epoch == '' then
    call('SADD', dupefilter, unpack(new))
  elseif #new > 0 then
    local added = 0
    for _, fingerprint in ipairs(new) do
      added = added + call('SADD', bucket_of[fingerprint], fingerprint)
    end
    reply[4] = reply[4] + added
    call('HSET', dupefilter, 'count', reply[4])
  end
end
see(new)
if #begun > 0 then
  call('SADD', started, unpack(begun))
end
local pushed, kept, numbers = pushes_count / 3, task_of_lease and {}, {}
for i = pushes_at + 1, pushes_at + pushes_count, 3 do
  local lease = tonumber(ARGV[i + 1])
  if lease == 0 or is_ours(lease) then
    call('RPUSH', KEYS[item_keys_at + ARGV[i]], ARGV[i + 2])
    local token = kept and task_of_lease[lease]
    if token and task_book().records[token] then
      task_book().count(token, 0, 0, 0, 1)
      if task_words:byte() == 49 then -- '1'
        numbers[token] = (numbers[token] or task_book().records[token].items) + 1
        kept[#kept + 1] = token .. format(' %.0f', numbers[token])
        kept[#kept + 1] = ARGV[i + 2]
      end
    end
  else
    pushed = pushed - 1
  end
end
if kept and #kept > 0 then
  call('HSET', results, unpack(kept))
end
for i = 1, letters and names_count or 0 do
  local hop = hops[i]
  if hop and hop[1] and hop[3] ~= '' then
    fresh_count = fresh_count + 1
    call('HSET', state, 'order', format('%d', order + fresh_count))
    local rank = first_rank(order_id(order + fresh_count, newest_first))
    local payload = payload_of(i)
    task_book().count(task_of(payload), 1, 0, 0)
    set_aside({hop[4], 0, '-', rank, payload}, hop[3], worker_name, 1)
  end
end
-- The leases that end: of those of a worker that cannot store only what produced nothing.
local done = id_of
if lost > 0 or simple < ids_count or is_full then
  done = {}
  for i, id in ipairs(id_of) do
    local verdict = i <= acks and '+' or i <= simple and '=' or ARGV[verdicts_at + i - simple]
    if is_ours(i) and verdict ~= '-' and (not is_full or verdict == '=') then
      done[#done + 1] = id
    end
  end
end
local facts = is_full and {} or {'commit:' .. worker, number, 'active', format('%d', now)}
if lost > 0 and not is_full then
  facts[5], facts[6] = 'strange:' .. worker, number
end
if pushed > 0 then
  pushed = pushed + (tonumber(before[4] or nil) or 0)
  facts[#facts + 1], facts[#facts + 2] = 'items', format('%d', pushed)
end
if #done > 0 then
  local besides = is_full and math.min(0, extra) or extra
  local pages = (tonumber(before[2] or nil) or 0) + math.max(0, #done + besides)
  facts[#facts + 1], facts[#facts + 2] = 'pages', format('%d', pages)
end
if #facts > 0 then
  call('HSET', state, unpack(facts))
end
for i = simple + 1, is_full and 0 or ids_count do
  local reason = ARGV[verdicts_at + i - simple]
  local entry = is_ours(i) and reason ~= '-' and call('HGET', leased, id_of[i])
  if entry then
    local fields = {read_entry(entry, id_of[i])}
    set_aside(fields, reason, worker_name, fields[2] + 1)
  end
end
if #done > 0 then
  call('HDEL', leased, unpack(done))
  call('ZREM', leases, unpack(done))
end
if count_ends then
  count_ends(is_full and '=')
end
store_tasks(now)
-- Behind all that the hops have produced: if this is torn, they are crawled again.
see(followed)
return reply
