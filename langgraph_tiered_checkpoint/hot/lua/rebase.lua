-- rebase: Postgres holds another change than the one flushed here, so one of the two has lost time: upload what Postgres
-- may lack, then drop the hot copy.
--
-- KEYS: thread due
-- ARGV: thread_id incarnation flushed op interval whole seen
--   flushed   the change id that Postgres holds;  interval  ms until it is due
--   whole     "1" to upload everything, "0" only the changes that were never acknowledged
--   seen      the change id flushed here that the caller has seen, or "any": who has seen another would undo what others have
--             begun since
-- Reply: {"ok"}, {"gone"}, {"changed", flushed change id}: not as the caller saw it
-- include: common
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
if ARGV.seen ~= 'any' and m.flushed ~= ARGV.seen then return {'changed', m.flushed} end
call('PERSIST', T) -- allowed when Redis is full, and lets the rest of the script run
local number = tonumber(string.match(ARGV.flushed, '^%d+') or 0)
m.change = math.max(m.change, number) + 1
if m.state ~= 'd' then m.dirty_since = now_ms() end
if m.reason == '' then m.reason = 'in Postgres before' end
if ARGV.whole == '1' then m.flushed_number = m.change - 1 end
m.flushed, m.rebase, m.state = ARGV.flushed, ARGV.whole == '1' and 1 or 2, 'd'
call('ZADD', KEYS.due, now_ms() + ARGV.interval, ARGV.thread_id)
local out = {'g' .. m.change, pack({ARGV.op, 'w', ''})}
add_meta(out, m)
hset(out)
touch_ttl(m)
return {'ok'}
