-- bind: say something else of the store that the keys under the prefix are of, unless that is not any more as the caller
-- saw it.
--
-- KEYS[1] layout
-- ARGV[1] what it said, "" for nothing  [2] what it is to say
-- Reply: what it says now
local said = redis.call('GET', KEYS[1]) or ''
if said ~= ARGV[1] then return said end
if said ~= ARGV[2] then redis.call('SET', KEYS[1], ARGV[2]) end
return ARGV[2]
