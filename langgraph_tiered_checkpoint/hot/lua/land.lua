-- land: make a thread of what was staged, with an incarnation of its own. The id must be held by a "closed" marker.
--
-- KEYS[1] thread  [2] threads  [3] lapses
-- ARGV[1] thread id  [2] token of the marker  [3] incarnation  [4] ttl ms  [5] hot ttl ms  [6] meta of the source
--     [7...] field, value, ...: the last ones
-- Reply: {"ok"}, {"taken"}
-- include: common
-- include: lists
local m, x = load()
if m or not x or x[2] ~= ARGV[2] or tonumber(x[3]) <= now_ms() then return {'taken'} end
local made, now = open(ARGV[6], 'm'), now_ms()
made.i, made.ct, made.lw, made.ttl, made.ht, made.pin = ARGV[3], now, now, tonumber(ARGV[4]), tonumber(ARGV[5]), 0
made.cp = made.th ~= '' and id_of(made.th) or nil
local out = {'m', pack(made)}
for i = 7, #ARGV do out[#out + 1] = ARGV[i] end
hset(out)
call('HDEL', T, 'x')
touch_ttl(made)
enlist(KEYS[2], KEYS[3], ARGV[1], now, made.ttl)
return {'ok'}
