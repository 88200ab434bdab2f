-- vouch: the thread was compared with Postgres under this run of the server.
--
-- KEYS: thread
-- ARGV: incarnation flushed
--   flushed  change id that was compared; and, last, see run.lua
-- Reply: {"ok"}, {"gone"}, {"changed", flushed change id}: not as the caller saw it
-- include: run
-- include: common
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
if m.flushed ~= ARGV.flushed then return {'changed', m.flushed} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
m.run = RUN
local out = {}
add_meta(out, m)
hset(out)
return {'ok'}
