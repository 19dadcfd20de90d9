-- Tasks: how scripts count what becomes of what is of a task. See tasks.py for the forms.
--
-- A payload of a task has a head in front: byte 4 and its token. The book of
-- tasks notes changes, and `store_tasks` writes them, as values: what there is more of is
-- written before it is there, what there is less of when it is gone. So a script that is cut
-- in half may leave a task with too much to do, which ends when the frontier is drained; never
-- with too little, which would end while it has pending requests.
-- @needs tasks tasks_ended

local task_notes

-- The token of the task that *payload* is of, or false.
local function task_of(payload)
  local token = payload:byte() == 4 and payload:sub(2, 17)
  return token and #token == 16 and not token:find('[^0-9a-f]') and token
end

-- What this script knows of tasks, and changes. It is made before anything is written: a key
-- of a wrong type fails here.
local function new_task_book()
  redis.call('HLEN', tasks)
  redis.call('ZCARD', tasks_ended)
  local records, counts_of, moves_of, ends_of = {}, {}, {}, {}
  local book = {records = records}

  function book.parse(record)
    local state, open, done, failed, items, submitted, started, ended, id, batch, worker, reason =
      record:match('^([qrdfc]) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)\n'
        .. '([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
    return state and {
      state = state, open = tonumber(open), done = tonumber(done), failed = tonumber(failed),
      items = tonumber(items), submitted = submitted, started = started, ended = ended,
      id = id, batch = batch, worker = worker, reason = reason,
    }
  end

  function book.text(task)
    return string.format('%s %.0f %.0f %.0f %.0f ', task.state, task.open, task.done,
      task.failed, task.items) .. task.submitted .. ' ' .. task.started .. ' ' .. task.ended
      .. '\n' .. task.id .. '\n' .. task.batch .. '\n' .. task.worker .. '\n' .. task.reason
  end

  -- Read the records of *tokens* that are not in `records` yet; false: there is none.
  function book.read(tokens)
    local fields, wanted = {}, {}
    for _, token in ipairs(tokens) do
      if records[token] == nil then
        records[token] = false
        fields[#fields + 1], wanted[#wanted + 1] = 't:' .. token, token
      end
    end
    for i, record in ipairs(#fields > 0 and redis.call('HMGET', tasks, unpack(fields)) or {}) do
      records[wanted[i]] = record and book.parse(record) or false
    end
  end

  function book.task(token)
    book.read({token})
    return records[token]
  end

  function book.is_living(task)
    return task and (task.state == 'q' or task.state == 'r')
  end

  -- The newest task of *id*, and its token; false: there is none.
  function book.newest(id)
    local token = redis.call('HGET', tasks, 'i:' .. id)
    return token and book.task(token), token
  end

  function book.is_cancelled(token)
    local task = token and book.task(token)
    return task and task.state == 'c'
  end

  -- Of all tasks, and of its batch, so many more are in *state*.
  local function note(task, state, more)
    for _, name in ipairs(task.batch == '' and {''} or {'', task.batch}) do
      local moves = moves_of[name] or {}
      moves_of[name] = moves
      moves[state] = (moves[state] or 0) + more
    end
  end

  -- It is in *state* from *now* on.
  function book.move(token, task, state, now)
    if task.state ~= state then
      if task.state then
        note(task, task.state, -1)
      end
      note(task, state, 1)
    end
    if state == 'r' and task.started == '0' then
      task.started = string.format('%.0f', now)
    end
    task.state = state
    task.ended = book.is_living(task) and '0' or string.format('%.0f', now)
    -- Living ones are behind all times.
    ends_of[token] = book.is_living(task) and '+inf' or task.ended
  end

  -- Somebody wants the rest of one that was cancelled all the same.
  function book.revive(token, now)
    if book.is_cancelled(token) then
      book.move(token, records[token], 'r', now)
    end
  end

  -- It is deleted: its batch has it no more.
  function book.forget(task)
    note(task, task.state, -1)
  end

  -- A task that is not there yet, of which one entry is left to do.
  function book.add(token, id, batch, state, now)
    local at = string.format('%.0f', now)
    local task = {open = 0, done = 0, failed = 0, items = 0, submitted = at,
      started = state == 'r' and at or '0', ended = '0', id = id, batch = batch, worker = '',
      reason = ''}
    records[token] = task
    book.move(token, task, state, now)
    counts_of[token] = {1, 0, 0, 0}
    return task
  end

  -- So much more is left to do of a task, so many more pages are done, dead letters, items.
  function book.count(token, open, done, failed, items, reason)
    if not token then
      return
    end
    local counts = counts_of[token] or {0, 0, 0, 0}
    counts_of[token] = counts
    for i, more in ipairs({open, done, failed, items or 0}) do
      counts[i] = counts[i] + more
    end
    counts[5] = reason or counts[5]
  end

  -- The task whose seed *seed* is, which has not begun, also if it was cancelled; nil: there
  -- is none.
  function book.queued(seed)
    local looked = 0
    for token in seed:gmatch('"task"%s*:%s*"([0-9a-f]+)"') do
      looked = looked + 1
      if looked > 3 then
        return nil
      end
      local task = #token == 16 and book.task(token)
      local waits = task and (task.state == 'q' or task.state == 'c' and task.started == '0')
      if waits and task.open > 0 then
        return token
      end
    end
  end

  -- How many tasks of the batches, and of all under the name '', are in which state.
  local function store_batches(fields)
    local names, keys = {}, {}
    for name in pairs(moves_of) do
      names[#names + 1], keys[#keys + 1] = name, 'b:' .. name
    end
    for i, known in ipairs(#keys > 0 and redis.call('HMGET', tasks, unpack(keys)) or {}) do
      local counts, at, sum = {}, 0, 0
      for count in (known or '0 0 0 0 0'):gmatch('%d+') do
        at = at + 1
        local state = ('qrdfc'):sub(at, at)
        counts[at] = math.max(0, count + (moves_of[names[i]][state] or 0))
        sum = sum + counts[at]
      end
      if sum == 0 then
        redis.call('HDEL', tasks, keys[i])
      else
        fields[#fields + 1], fields[#fields + 2] = keys[i], table.concat(counts, ' ')
      end
    end
    moves_of = {}
  end

  -- Write what has changed.
  function book.store(now)
    local tokens, fields, ends = {}, {}, {}
    for token in pairs(counts_of) do
      tokens[#tokens + 1] = token
    end
    if #tokens > 0 then
      book.read(tokens)
    end
    for _, token in ipairs(tokens) do
      local task, counts = records[token], counts_of[token]
      if task then
        task.open = math.max(0, task.open + counts[1])
        task.done = task.done + counts[2]
        task.failed = math.max(0, task.failed + counts[3])
        task.items = task.items + counts[4]
        if counts[5] then
          task.reason = counts[5]:sub(1, 500):gsub('[%c]', ' ')
        end
        if book.is_living(task) and task.open == 0 and counts[1] < 0 then
          book.move(token, task, task.failed > 0 and 'f' or 'd', now)
        elseif task.open > 0 and (task.state == 'd' or task.state == 'f') then
          book.move(token, task, 'r', now)
        end
        fields[#fields + 1], fields[#fields + 2] = 't:' .. token, book.text(task)
      end
    end
    counts_of = {}
    store_batches(fields)
    if #fields > 0 then
      redis.call('HSET', tasks, unpack(fields))
    end
    for token, at in pairs(ends_of) do
      ends[#ends + 1], ends[#ends + 2] = at, token
    end
    if #ends > 0 then
      redis.call('ZADD', tasks_ended, unpack(ends))
    end
    ends_of = {}
  end

  return book
end

local function task_book()
  task_notes = task_notes or new_task_book()
  return task_notes
end

-- Write what has changed, if anything has.
local function store_tasks(now)
  if task_notes then
    task_notes.store(now)
  end
end
