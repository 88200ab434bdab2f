-- reopen: remove a marker, if it is still the one that the caller left.
--
-- KEYS: thread
-- ARGV: token
-- Reply: {"ok"}
-- include: common
local m, x = load()
if not m and x and x[2] == ARGV.token then call('UNLINK', T) end
return {'ok'}
