-- bucket: figures of one bucket.
--
-- KEYS: threads due parked
-- ARGV: some first
--   some  how many threads to name, at random;  first  how many that are due
-- Reply: {threads, due, overdue, ms since the oldest became due or -1, parked thread ids (100 at most),
--     some thread ids at random, the thread ids that are due first}
-- include: clock
local now = now_ms()
local oldest = redis.call('ZRANGE', KEYS.due, 0, 0, 'WITHSCORES')
return {
  redis.call('ZCARD', KEYS.threads), redis.call('ZCARD', KEYS.due), redis.call('ZCOUNT', KEYS.due, '-inf', now),
  oldest[2] and math.max(-1, now - oldest[2]) or -1, redis.call('ZRANGE', KEYS.parked, 0, 99),
  redis.call('ZRANDMEMBER', KEYS.threads, ARGV.some), redis.call('ZRANGE', KEYS.due, 0, ARGV.first - 1),
}
