-- census: some threads of one bucket, counted by state, so that something can be said of all of them.
--
-- KEYS: threads...
-- Reply: {ephemeral, dirty, clean, bytes of the ephemeral, dirty, clean, ms since the oldest became dirty or -1}
-- What has lapsed, is a marker or cannot be read counts for nothing.
-- include: clock
-- include: state
local now = now_ms()
local place = {[EPHEMERAL] = 1, [DIRTY] = 2, [CLEAN] = 3}
local reply = {0, 0, 0, 0, 0, 0, -1}
for i = 1, #KEYS do
  local packed = redis.pcall('HGET', KEYS[i], 's')
  local sound, q = pcall(function() return {struct.unpack(STATE, packed)} end)
  local at = sound and place[q[KIND]]
  if at then
    local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[i], 'SAMPLES', 50) -- exact, if it has no more fields
    reply[at] = reply[at] + 1
    if type(bytes) == 'number' then reply[at + 3] = reply[at + 3] + bytes end
    if q[KIND] == DIRTY then reply[7] = math.max(reply[7], now - q[DIRTY_SINCE]) end
  end
end
return reply
