-- lease_due: lease the due threads of one bucket.
--
-- KEYS: due
-- ARGV: most lease
--   most  threads;  lease  ms
-- Reply: thread ids
-- include: clock
local now = now_ms()
redis.call('ZREM', KEYS.due, '') -- allowed when Redis is full, and lets the rest of the script run
local due = redis.call('ZRANGEBYSCORE', KEYS.due, '-inf', now, 'LIMIT', 0, ARGV.most)
for _, thread in ipairs(due) do redis.call('ZADD', KEYS.due, now + ARGV.lease, thread) end
return due
