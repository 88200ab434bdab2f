-- delete: remove a thread from this tier for good, and remember that for ten minutes under a hash of its id. Whatever the
-- key holds, it goes: of a thread that cannot be read, Postgres may hold some, and knows the incarnation if it does.
--
-- KEYS: thread due threads gone parked runs lapses
-- ARGV: thread_id op only...
--   op    random, the same when the call is repeated
--   only  incarnations, to remove only these: what Postgres has just deleted, and a reader or writer may have taken from it
--         before; and, last, see run.lua
-- Reply: {"more"}: call again, the thread had too many runs for one call; {"ok", "1" if Postgres may hold some of it,
--     incarnation that was removed or "", run id of the server, ms as of which the thread is gone}; of some incarnations only,
--     "1" if one of them was here
-- include: run
-- include: common
-- include: moved
-- include: runs
local KEPT_MS, MOST_RUNS = 600000, 2000
local TID, OP = ARGV.thread_id, ARGV.op
local now = now_exactly()
call('ZREMRANGEBYSCORE', KEYS.gone, '-inf', now - KEPT_MS)
local sound, m = pcall(load)
if not sound then m = nil end
-- A key of another type holds nothing of the thread.
local function is_list(key)
  return call('TYPE', key).ok == 'zset'
end
local function remove_all()
  call('UNLINK', T)
  for _, list in ipairs({KEYS.due, KEYS.threads, KEYS.parked, KEYS.lapses}) do
    if is_list(list) then call('ZREM', list, TID) end
  end
  if is_list(KEYS.runs) then forget_runs(KEYS.runs, TID, math.huge) end
end
if #ARGV >= AT.only then
  local here = call('ZSCORE', KEYS.gone, tomb({TID, OP})) and '1' or '0' -- a repeated call says what the first one did
  for i = AT.only, #ARGV do
    call('ZADD', KEYS.gone, now, tomb({TID, ARGV[i]}))
    if m and m.incarnation == ARGV[i] then
      remove_all()
      call('ZADD', KEYS.gone, now, tomb({TID, OP}))
      here = '1'
    end
  end
  return {'ok', here, '', RUN}
end
local at = string.format('%.3f', now + 0.001) -- not before the tombstone, however it is rounded
if call('ZSCORE', KEYS.gone, tomb({TID, OP})) then return {'ok', '1', '', RUN, at} end
if is_list(KEYS.runs) then
  local _, left = forget_runs(KEYS.runs, TID, MOST_RUNS)
  if left then return {'more'} end
end
remove_all()
call('ZADD', KEYS.gone, now, tomb({TID}), now, tomb({TID, OP}))
if m then call('ZADD', KEYS.gone, now, tomb({TID, m.incarnation})) end
local only_here = m and m.state == 'e' and m.whole == 1 and m.rebase == 0 and not moved(m)
return {'ok', only_here and '0' or '1', m and m.incarnation or '', RUN, at}
