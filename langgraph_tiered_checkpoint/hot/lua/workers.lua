-- workers: the promoters that have lately said that they are alive.
--
-- KEYS: workers
-- ARGV: alive
--   alive  ms for which one counts as alive after it has said so
-- Reply: {now ms, what each said, when, ...}, 1,000 of them at most
-- include: clock
local now = now_ms()
return {now, unpack(redis.call('ZRANGEBYSCORE', KEYS.workers, now - ARGV.alive, '+inf', 'WITHSCORES', 'LIMIT', 0, 1000))}
