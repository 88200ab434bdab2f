-- rebase: Postgres holds another change than the one flushed here, so Redis lost or regained time: upload everything.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] the change id that Postgres holds  [3] op
-- Reply: {"ok"}, {"gone"}
-- include: common
local m = load()
if not m or m.i ~= ARGV[1] then return {'gone'} end
call('PERSIST', T) -- allowed when Redis is full, and lets the rest of the script run
local number = tonumber(string.match(ARGV[2], '^%d+') or 0)
m.ch = math.max(m.ch, number) + 1
m.fl, m.fn, m.rb, m.s = ARGV[2], m.ch - 1, 1, 'd'
hset({'g' .. m.ch, pack({ARGV[3], 'w', ''}), 'm', pack(m)})
touch_ttl(m)
return {'ok'}
