-- beat: a promoter says that it is alive. Those that have not said so for a while are forgotten.
--
-- KEYS[1] workers
-- ARGV[1] what it said last time, or ""  [2] what it says, or "" if it ends  [3] ms for which it then counts as alive
-- Reply: "1"
-- It begins with a command that a full Redis allows: what drains it is alive all the same.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1], ARGV[2])
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], gone)
end
return '1'
