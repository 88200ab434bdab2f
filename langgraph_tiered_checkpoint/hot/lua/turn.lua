-- turn: whether it is the caller's turn to sweep. One process does it for all that use the store.
--
-- KEYS: turn
-- ARGV: hold
--   hold  ms for which nobody else's turn comes
-- Reply: "1" or "0"
-- A Redis that is full needs a sweep, and refuses to note who does it.
local taken = redis.pcall('SET', KEYS.turn, '1', 'NX', 'PX', ARGV.hold)
if taken == false then return '0' end
return '1'
