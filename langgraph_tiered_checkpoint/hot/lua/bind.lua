-- bind: say something else of the store that the keys under the prefix are of, unless that is not any more as the caller
-- saw it.
--
-- KEYS: layout
-- ARGV: before after
--   before  what it said, "" for nothing;  after  what it is to say
-- Reply: what it says now
local said = redis.call('GET', KEYS.layout) or ''
if said ~= ARGV.before then return said end
if said ~= ARGV.after then redis.call('SET', KEYS.layout, ARGV.after) end
return ARGV.after
