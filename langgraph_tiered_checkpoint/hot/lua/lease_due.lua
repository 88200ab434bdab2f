-- lease_due: lease the due threads of one bucket.
--
-- KEYS[1] due
-- ARGV[1] threads at most  [2] lease ms
-- Reply: thread ids
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREM', KEYS[1], '') -- allowed when Redis is full, and lets the rest of the script run
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, thread in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[2], thread) end
return due
