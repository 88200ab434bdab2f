-- rebase: Postgres holds another change than the one flushed here, so one of the two has lost time: upload what Postgres
-- may lack, then drop the hot copy.
--
-- KEYS[1] thread  [2] due
-- ARGV[1] thread id  [2] incarnation  [3] the change id that Postgres holds  [4] op  [5] ms until it is due
--     [6] "1" to upload everything, "0" only the changes that were never acknowledged
--     [7] the change id flushed here that the caller has seen, or "any": who has seen another would undo what others have
--     begun since
-- Reply: {"ok"}, {"gone"}, {"changed", flushed change id}: not as the caller saw it
-- include: common
local m = load()
if not m or m.i ~= ARGV[2] then return {'gone'} end
if ARGV[7] ~= 'any' and m.fl ~= ARGV[7] then return {'changed', m.fl} end
call('PERSIST', T) -- allowed when Redis is full, and lets the rest of the script run
local number = tonumber(string.match(ARGV[3], '^%d+') or 0)
m.ch = math.max(m.ch, number) + 1
if m.s ~= 'd' then m.du = now_ms() end
if m.rs == '' then m.rs = 'in Postgres before' end
if ARGV[6] == '1' then m.fn = m.ch - 1 end
m.fl, m.rb, m.s = ARGV[3], ARGV[6] == '1' and 1 or 2, 'd'
call('ZADD', KEYS[2], now_ms() + ARGV[5], ARGV[1])
hset({'g' .. m.ch, pack({ARGV[4], 'w', ''}), 'm', pack(m)})
touch_ttl(m)
return {'ok'}
