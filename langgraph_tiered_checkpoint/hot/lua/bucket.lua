-- bucket: figures of one bucket.
--
-- KEYS[1] threads  [2] due  [3] parked
-- Reply: {threads, due, overdue, ms since the oldest became due or -1, parked thread ids (100 at most)}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {
  redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCOUNT', KEYS[2], '-inf', now),
  oldest[2] and math.max(-1, now - oldest[2]) or -1, redis.call('ZRANGE', KEYS[3], 0, 99),
}
