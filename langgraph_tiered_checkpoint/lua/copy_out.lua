-- copy_out: a whole thread as Redis dumps it.
--
-- KEYS[1] thread
-- Reply: {"thread", state, dump}, {"absent"}
-- include: common
local m = load()
if not m then return {'absent'} end
return {'thread', m.s, m.s == 'e' and call('DUMP', T) or ''}
