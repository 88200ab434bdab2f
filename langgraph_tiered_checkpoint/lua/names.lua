-- names: one page of a bucket's threads, or of the threads that a run has written to, in bytewise order.
--
-- KEYS[1] threads, or runs
-- ARGV[1] "threads": rank to start at; "runs": run id  [2] "threads" or "runs"  [3] entries at most
--     [4] threads: key of a thread, less its id; runs: last seen
-- Reply: thread ids; "" in place of a thread that has lapsed and is not swept yet
if ARGV[2] == 'threads' then
  local names = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[3] - 1)
  for i, name in ipairs(names) do
    if redis.pcall('HEXISTS', ARGV[4] .. name, 'm') == 0 then names[i] = '' end -- there is something if it is no hash
  end
  return names
end
local from = ARGV[4] == '' and '[' .. ARGV[1] .. '\0' or '(' .. ARGV[1] .. '\0' .. ARGV[4]
local members = redis.call('ZRANGEBYLEX', KEYS[1], from, '(' .. ARGV[1] .. '\1', 'LIMIT', 0, ARGV[3])
local out = {}
for i, member in ipairs(members) do out[i] = string.sub(member, #ARGV[1] + 2) end
return out
