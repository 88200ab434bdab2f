-- bucket: figures of one bucket.
--
-- KEYS[1] threads  [2] due  [3] parked
-- ARGV[1] how many threads to name  [2] how many that are due
-- Reply: {threads, due, overdue, ms since the oldest became due or -1, parked thread ids (100 at most),
--     some thread ids at random, the thread ids that are due first}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {
  redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCOUNT', KEYS[2], '-inf', now),
  oldest[2] and math.max(-1, now - oldest[2]) or -1, redis.call('ZRANGE', KEYS[3], 0, 99),
  redis.call('ZRANDMEMBER', KEYS[1], ARGV[1]), redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1),
}
