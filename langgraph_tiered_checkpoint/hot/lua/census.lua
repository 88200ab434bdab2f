-- census: some threads of one bucket, counted by state, so that something can be said of all of them.
--
-- KEYS threads
-- Reply: {ephemeral, dirty, clean, bytes of the ephemeral, dirty, clean, ms since the oldest became dirty or -1}
-- What has lapsed, is a marker or cannot be read counts for nothing.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local place = {e = 1, d = 2, c = 3}
local reply = {0, 0, 0, 0, 0, 0, -1}
for _, key in ipairs(KEYS) do
  local packed = redis.pcall('HGET', key, 'm')
  local sound, m = pcall(cmsgpack.unpack, packed)
  local at = sound and type(m) == 'table' and place[m.s]
  if at then
    local bytes = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', 50) -- exact, if it has no more fields
    reply[at] = reply[at] + 1
    if type(bytes) == 'number' then reply[at + 3] = reply[at + 3] + bytes end
    if m.s == 'd' and type(m.du) == 'number' then reply[7] = math.max(reply[7], now - m.du) end
  end
end
return reply
