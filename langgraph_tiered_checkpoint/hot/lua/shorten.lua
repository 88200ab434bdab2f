-- shorten: let an ephemeral thread lapse at a time of its own, unless it is used before: then its TTL counts again.
--
-- KEYS: thread lapses
-- ARGV: thread_id incarnation ttl
--   ttl  ms from now
-- Reply: {"ok"}, {"gone"}: there is no such ephemeral thread
-- include: common
local m = load()
if not m or m.incarnation ~= ARGV.incarnation or m.state ~= 'e' then return {'gone'} end
call('PEXPIRE', T, ARGV.ttl)
call('ZADD', KEYS.lapses, now_ms() + tonumber(ARGV.ttl), ARGV.thread_id)
return {'ok'}
