-- promote: make an ephemeral thread due for promotion, or change its pin.
--
-- KEYS: thread due
-- ARGV: thread_id reason pin op
--   pin  "1", "0", or "" to leave it
-- Reply: {"ok", incarnation, state}, {"absent"}
-- include: common
local m = load()
if not m then return {'absent'} end
local now, out = now_ms(), {}
if ARGV.pin ~= '' then m.pinned = tonumber(ARGV.pin) end
if m.state == 'e' and ARGV.pin ~= '0' then
  m.change = m.change + 1
  m.state, m.reason, m.dirty_since, m.flushed_number = 'd', ARGV.reason, now, m.change - 1
  out = {'g' .. m.change, pack({ARGV.op, 'w', ''})}
  call('ZADD', KEYS.due, now, ARGV.thread_id)
elseif waits(m) and ARGV.pin ~= '0' then
  m.reason = ARGV.reason
  call('ZADD', KEYS.due, now, ARGV.thread_id)
end
add_meta(out, m)
hset(out)
touch_ttl(m)
return {'ok', m.incarnation, m.state}
