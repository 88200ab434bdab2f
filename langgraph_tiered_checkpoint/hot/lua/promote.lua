-- promote: make an ephemeral thread due for promotion, or change its pin.
--
-- KEYS[1] thread  [2] due
-- ARGV[1] thread id  [2] reason  [3] pin: "1", "0", or "" to leave it  [4] op
-- Reply: {"ok", incarnation, state}, {"absent"}
-- include: common
local m = load()
if not m then return {'absent'} end
local now = now_ms()
if ARGV[3] ~= '' then m.pin = tonumber(ARGV[3]) end
if m.s == 'e' and ARGV[3] ~= '0' then
  m.ch = m.ch + 1
  m.s, m.rs, m.du, m.fn = 'd', ARGV[2], now, m.ch - 1
  hset({'g' .. m.ch, pack({ARGV[4], 'w', ''}), 'm', pack(m)})
  call('ZADD', KEYS[2], now, ARGV[1])
else
  if m.s == 'd' and m.rs == 'before expiry' and ARGV[3] ~= '0' then
    m.rs = ARGV[2]
    call('ZADD', KEYS[2], now, ARGV[1])
  end
  hset({'m', pack(m)})
end
touch_ttl(m)
return {'ok', m.i, m.s}
