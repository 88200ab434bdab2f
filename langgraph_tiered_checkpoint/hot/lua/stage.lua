-- stage: put some fields of a copy beside the "closed" marker that holds its id. Without a meta they are no thread, and go
-- with the marker.
--
-- KEYS: thread
-- ARGV: token hold pairs...
--   token  of the marker;  hold  ms that it holds from now on;  pairs  field, value, ...
-- Reply: {"ok"}, {"taken"}
-- include: common
local m, x = load()
if m or not x or x[2] ~= ARGV.token or tonumber(x[3]) <= now_ms() then return {'taken'} end
local out = {'x', pack({x[1], x[2], now_ms() + tonumber(ARGV.hold)})}
for i = AT.pairs, #ARGV do out[#out + 1] = ARGV[i] end
hset(out)
call('PEXPIRE', T, ARGV.hold - 100) -- nobody may begin a thread between these fields
return {'ok'}
