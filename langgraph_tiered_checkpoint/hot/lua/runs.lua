-- Shared by the scripts that keep a bucket's index of runs. Each run of a thread has two members: run id, NUL, thread id,
-- to find the threads of a run; and NUL, thread id, NUL, run id, to remove what there is of a thread. No id holds a NUL.
local function note_run(index, run, thread)
  redis.call('ZADD', index, 0, run .. '\0' .. thread, 0, '\0' .. thread .. '\0' .. run)
end

-- Remove the members of a thread, so many at most (about). Returns how many more there may be removed, and whether some are
-- left.
local function forget_runs(index, thread, most)
  local head = '\0' .. thread .. '\0'
  local page
  repeat
    page = math.min(most, 1000)
    local members = redis.call('ZRANGEBYLEX', index, '[' .. head, '(\0' .. thread .. '\1', 'LIMIT', 0, page)
    local gone = {}
    for i, member in ipairs(members) do
      gone[2 * i - 1], gone[2 * i] = member, string.sub(member, #head + 1) .. '\0' .. thread
    end
    if #gone > 0 then redis.call('ZREM', index, unpack(gone)) end
    most = most - #members
    if #members < page then return most, false end
  until most <= 0
  return most, true
end
