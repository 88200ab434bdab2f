-- land: make a thread of a dump, with an incarnation of its own. The target must be held by a "closed" marker.
--
-- KEYS[1] thread  [2] threads  [3] runs  [4] lapses
-- ARGV[1] thread id  [2] token of the marker  [3] incarnation  [4] ttl ms  [5] hot ttl ms  [6] dump  [7...] run ids
-- Reply: {"ok"}, {"taken"}
-- include: common
-- include: runs
-- include: lists
local m, x = load()
if m or not x or x[2] ~= ARGV[2] or tonumber(x[3]) <= now_ms() then return {'taken'} end
call('RESTORE', T, 0, ARGV[6], 'REPLACE')
local made, now = load(), now_ms()
made.i, made.ct, made.lw, made.ttl, made.ht, made.pin = ARGV[3], now, now, tonumber(ARGV[4]), tonumber(ARGV[5]), 0
hset({'m', pack(made)})
touch_ttl(made)
enlist(KEYS[2], KEYS[4], ARGV[1], now, made.ttl)
for i = 7, #ARGV do note_run(KEYS[3], ARGV[i], ARGV[1]) end
return {'ok'}
