-- evict: take a clean thread out of this tier.
--
-- KEYS: thread due threads lapses
-- ARGV: thread_id incarnation flushed token hold
--   flushed  change id that the caller relies on;  token  leave a "closed" marker, or "" to leave nothing
--   hold     ms that the marker holds writers off
-- Reply: {"ok"}, {"dirty"}: not as the caller saw it; {"absent"}
-- include: common
-- include: lists
local m, x = load()
if m then
  if m.incarnation ~= ARGV.incarnation or m.state ~= 'c' or m.flushed ~= ARGV.flushed then return {'dirty'} end
elseif ARGV.token == '' then
  end_fill(x)
  return {'absent'}
elseif x and x[1] == 'closed' and tonumber(x[3]) > now_ms() then
  return {'dirty'}
end
call('ZREM', KEYS.due, ARGV.thread_id)
call('UNLINK', T)
if ARGV.token ~= '' then
  hset({'x', pack({'closed', ARGV.token, now_ms() + tonumber(ARGV.hold)})})
  call('PEXPIRE', T, ARGV.hold)
else
  strike(KEYS.threads, KEYS.lapses, ARGV.thread_id)
end
return {'ok'}
