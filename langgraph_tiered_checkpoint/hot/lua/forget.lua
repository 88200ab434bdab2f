-- forget: drop the hot copy of a thread that Postgres holds, with more changes than were ever flushed from here.
--
-- KEYS: thread due threads lapses
-- ARGV: thread_id incarnation flushed
--   flushed  change id that was compared
-- Reply: {"ok"}; {"gone"}; {"changed", flushed change id}: not as the caller saw it; {"dirty"}: there are changes that were
--     never acknowledged, nothing is dropped
-- include: common
-- include: lists
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
if m.flushed ~= ARGV.flushed then return {'changed', m.flushed} end
if m.state == 'd' then return {'dirty'} end
call('ZREM', KEYS.due, ARGV.thread_id)
strike(KEYS.threads, KEYS.lapses, ARGV.thread_id)
call('UNLINK', T)
return {'ok'}
