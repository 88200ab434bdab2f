-- lapses: the threads of one bucket that may have lapsed, for sweep.lua; and remove tombstones that are of no more use.
--
-- KEYS: lapses gone
-- ARGV: most kept
--   most  entries of each;  kept  ms for which tombstones are kept
-- Reply: {thread ids, "1" if there may be more}
-- include: clock
local now, most = now_ms(), tonumber(ARGV.most)
local old = redis.call('ZCOUNT', KEYS.gone, '-inf', now - ARGV.kept)
if old > 0 then redis.call('ZREMRANGEBYRANK', KEYS.gone, 0, math.min(old, most) - 1) end
local names = redis.call('ZRANGEBYSCORE', KEYS.lapses, '-inf', now, 'LIMIT', 0, most)
return {names, (old > most or #names == most) and '1' or '0'}
