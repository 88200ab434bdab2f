-- evict: take a clean thread out of this tier.
--
-- KEYS[1] thread  [2] due  [3] threads  [4] lapses
-- ARGV[1] thread id  [2] incarnation  [3] flushed change id that the caller relies on  [4] token: leave a "closed" marker,
--     or "" to leave nothing  [5] ms that the marker holds writers off
-- Reply: {"ok"}, {"dirty"}: not as the caller saw it; {"absent"}
-- include: common
-- include: lists
local m, x = load()
if m then
  if m.i ~= ARGV[2] or m.s ~= 'c' or m.fl ~= ARGV[3] then return {'dirty'} end
elseif ARGV[4] == '' then
  end_fill(x)
  return {'absent'}
elseif x and x[1] == 'closed' and tonumber(x[3]) > now_ms() then
  return {'dirty'}
end
call('ZREM', KEYS[2], ARGV[1])
call('UNLINK', T)
if ARGV[4] ~= '' then
  hset({'x', pack({'closed', ARGV[4], now_ms() + tonumber(ARGV[5])})})
  call('PEXPIRE', T, ARGV[5])
else
  strike(KEYS[3], KEYS[4], ARGV[1])
end
return {'ok'}
