-- rebase: Postgres holds another change than the one flushed here, so Redis lost or regained time: upload everything.
--
-- KEYS[1] thread  [2] due
-- ARGV[1] thread id  [2] incarnation  [3] the change id that Postgres holds  [4] op  [5] ms until it is due
-- Reply: {"ok"}, {"gone"}
-- include: common
local m = load()
if not m or m.i ~= ARGV[2] then return {'gone'} end
call('PERSIST', T) -- allowed when Redis is full, and lets the rest of the script run
local number = tonumber(string.match(ARGV[3], '^%d+') or 0)
m.ch = math.max(m.ch, number) + 1
if m.s ~= 'd' then m.du = now_ms() end
if m.rs == '' then m.rs = 'in Postgres before' end
m.fl, m.fn, m.rb, m.s = ARGV[3], m.ch - 1, 1, 'd'
call('ZADD', KEYS[2], now_ms() + ARGV[5], ARGV[1])
hset({'g' .. m.ch, pack({ARGV[4], 'w', ''}), 'm', pack(m)})
touch_ttl(m)
return {'ok'}
