-- lapses: the threads of one bucket that may have lapsed, for sweep.lua; and remove tombstones that are of no more use.
--
-- KEYS[1] lapses  [2] gone
-- ARGV[1] entries of each at most  [2] ms for which tombstones are kept
-- Reply: {thread ids, "1" if there may be more}
local t = redis.call('TIME')
local now, most = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[1])
local old = redis.call('ZCOUNT', KEYS[2], '-inf', now - ARGV[2])
if old > 0 then redis.call('ZREMRANGEBYRANK', KEYS[2], 0, math.min(old, most) - 1) end
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, most)
return {names, (old > most or #names == most) and '1' or '0'}
