-- trim: go on with a trim that ack.lua began.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] root checkpoints to keep
-- Reply: {"ok", "1" if there is more}
-- include: common
-- include: reading
-- include: values
-- include: removing
-- include: trimming
local m = load()
if not m or m.i ~= ARGV[1] or m.fl == '' then return {'ok', '0'} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
local more = trim(m, tonumber(ARGV[2]))
local out = {'m', pack(m)}
save_removals(out)
return {'ok', more and '1' or '0'}
