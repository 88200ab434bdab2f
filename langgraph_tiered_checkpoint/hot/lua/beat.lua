-- beat: a promoter says that it is alive. Those that have not said so for a while are forgotten.
--
-- KEYS: workers
-- ARGV: before after alive
--   before  what it said last time, or "";  after  what it says, or "" if it ends;  alive  ms for which it then counts as alive
-- Reply: "1"
-- It begins with a command that a full Redis allows: what drains it is alive all the same.
-- include: clock
local now = now_ms()
redis.call('ZREM', KEYS.workers, ARGV.before, ARGV.after)
if ARGV.after ~= '' then
  redis.call('ZADD', KEYS.workers, now, ARGV.after)
  redis.call('PEXPIRE', KEYS.workers, ARGV.alive)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS.workers, '-inf', now - ARGV.alive, 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS.workers, gone)
end
return '1'
