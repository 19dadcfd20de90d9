-- For how long tasks are there: while there is a crawl, or seeds of them; then for a time.
-- @needs tasks results tasks_ended

-- *keep_for*: ms; nil: for good. Where there are no tasks no right to either is needed.
local function keep_tasks(keep_for)
  if redis.call('EXISTS', tasks) == 0 then
    return
  end
  for _, key in ipairs({tasks, results, tasks_ended}) do
    if keep_for then
      redis.call('PEXPIRE', key, keep_for)
    else
      redis.call('PERSIST', key)
    end
  end
end
