-- park: a flush failed for the thread's own reason; try again later and say why meanwhile.
--
-- KEYS: thread due parked
-- ARGV: thread_id incarnation error first longest
--   first, longest  delay ms
-- Reply: {"parked", ms until the next try}, {"gone"}
-- include: common
local m = load()
if not m or m.incarnation ~= ARGV.incarnation or m.state ~= 'd' then return {'gone'} end
call('HDEL', T, 'e') -- allowed when Redis is full, and lets the rest of the script run
local now = now_ms()
m.error, m.failures = ARGV.error, m.failures + 1
local delay = math.min(tonumber(ARGV.first) * 2 ^ math.min(m.failures - 1, 20), tonumber(ARGV.longest))
call('ZADD', KEYS.due, now + delay, ARGV.thread_id)
call('ZADD', KEYS.parked, now, ARGV.thread_id)
local out = {}
add_meta(out, m)
hset(out)
return {'parked', delay}
