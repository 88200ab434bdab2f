-- shorten: let an ephemeral thread lapse at a time of its own, unless it is used before: then its TTL counts again.
--
-- KEYS[1] thread  [2] lapses
-- ARGV[1] thread id  [2] incarnation  [3] ms from now
-- Reply: {"ok"}, {"gone"}: there is no such ephemeral thread
-- include: common
local m = load()
if not m or m.i ~= ARGV[2] or m.s ~= 'e' then return {'gone'} end
call('PEXPIRE', T, ARGV[3])
call('ZADD', KEYS[2], now_ms() + tonumber(ARGV[3]), ARGV[1])
return {'ok'}
