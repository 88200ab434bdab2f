-- park: a flush failed for the thread's own reason; try again later and say why meanwhile.
--
-- KEYS[1] thread  [2] due  [3] parked
-- ARGV[1] thread id  [2] incarnation  [3] error  [4] first delay ms  [5] longest delay ms
-- Reply: {"parked", ms until the next try}, {"gone"}
-- include: common
local m = load()
if not m or m.i ~= ARGV[2] or m.s ~= 'd' then return {'gone'} end
call('HDEL', T, 'e') -- allowed when Redis is full, and lets the rest of the script run
local now = now_ms()
m.er, m.bk = ARGV[3], m.bk + 1
local delay = math.min(tonumber(ARGV[4]) * 2 ^ math.min(m.bk - 1, 20), tonumber(ARGV[5]))
call('ZADD', KEYS[2], now + delay, ARGV[1])
call('ZADD', KEYS[3], now, ARGV[1])
hset({'m', pack(m)})
return {'parked', delay}
