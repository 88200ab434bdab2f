-- workers: the promoters that have lately said that they are alive.
--
-- KEYS[1] workers
-- ARGV[1] ms for which one counts as alive after it has said so
-- Reply: {now ms, what each said, when, ...}, 1,000 of them at most
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return {now, unpack(redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000))}
