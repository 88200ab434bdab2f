-- vouch: the thread was compared with Postgres under this run of the server.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] flushed change id that was compared
-- Reply: {"ok"}, {"gone"}, {"changed", flushed change id}: not as the caller saw it
-- include: common
-- include: run
local m = load()
if not m or m.i ~= ARGV[1] then return {'gone'} end
if m.fl ~= ARGV[2] then return {'changed', m.fl} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
m.rn = RUN
hset({'m', pack(m)})
return {'ok'}
