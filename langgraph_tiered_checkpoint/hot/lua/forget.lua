-- forget: drop the hot copy of a thread that Postgres holds, with more changes than were ever flushed from here.
--
-- KEYS[1] thread  [2] due  [3] threads  [4] lapses
-- ARGV[1] thread id  [2] incarnation  [3] flushed change id that was compared
-- Reply: {"ok"}; {"gone"}; {"changed", flushed change id}: not as the caller saw it; {"dirty"}: there are changes that were
--     never acknowledged, nothing is dropped
-- include: common
-- include: lists
local m = load()
if not m or m.i ~= ARGV[2] then return {'gone'} end
if m.fl ~= ARGV[3] then return {'changed', m.fl} end
if m.s == 'd' then return {'dirty'} end
call('ZREM', KEYS[2], ARGV[1])
strike(KEYS[3], KEYS[4], ARGV[1])
call('UNLINK', T)
return {'ok'}
