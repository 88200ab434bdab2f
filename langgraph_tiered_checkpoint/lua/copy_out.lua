-- copy_out: a whole thread as Redis dumps it.
--
-- KEYS[1] thread
-- Reply: {"thread", state, dump}, {"absent"}; {"moved", ...}: see run.lua
-- include: common
-- include: run
local m = load()
if not m then return {'absent'} end
if moved(m) then return moved_reply(m) end
return {'thread', m.s, m.s == 'e' and call('DUMP', T) or ''}
