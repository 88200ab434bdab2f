-- reopen: remove a marker, if it is still the one that the caller left.
--
-- KEYS[1] thread
-- ARGV[1] token
-- Reply: {"ok"}
-- include: common
local m, x = load()
if not m and x and x[2] == ARGV[1] then call('UNLINK', T) end
return {'ok'}
