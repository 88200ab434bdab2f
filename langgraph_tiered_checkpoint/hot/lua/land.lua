-- land: make a thread of what was staged, with an incarnation of its own. The id must be held by a "closed" marker.
--
-- KEYS: thread threads lapses
-- ARGV: thread_id token incarnation ttl hot_ttl meta pairs...
--   token  of the marker;  ttl, hot_ttl  ms;  meta  of the source, as copy_out.lua gives it;  pairs  field, value, ...: the last
-- Reply: {"ok"}, {"taken"}
-- include: common
-- include: lists
local held, x = load()
if held or not x or x[2] ~= ARGV.token or tonumber(x[3]) <= now_ms() then return {'taken'} end
local meta, now = open(ARGV.meta), now_ms()
local m = open_meta(meta[1], meta[2])
m.incarnation, m.created, m.last_write, m.pinned = ARGV.incarnation, now, now, 0
m.ttl, m.hot_ttl, m.own_ttl = tonumber(ARGV.ttl), tonumber(ARGV.hot_ttl), 0
m.copied = m.newest ~= '' and id_of(m.newest) or nil
local out = {}
add_meta(out, m)
for i = AT.pairs, #ARGV do out[#out + 1] = ARGV[i] end
hset(out)
call('HDEL', T, 'x')
touch_ttl(m)
enlist(KEYS.threads, KEYS.lapses, ARGV.thread_id, now, m.ttl)
return {'ok'}
