-- delta: follow the parents of a checkpoint and gather what they hold of some channels.
--
-- KEYS: thread
-- ARGV: ns id room most channels...
--   id        of the checkpoint whose ancestors are wanted, "" for the latest
--   room      bytes, and  most  ancestors, after which to stop
--   channels  ...; and, last, see run.lua
-- Reply: {"walk", incarnation, ancestors, next ancestor or "", its pending writes, channels still open, "1" if it goes on
--     here: after the last of these ancestors, in another page; if not, the next ancestor is not here}
--     with each ancestor {id, {channel, value or false if it is inline, ...}, pending writes of these channels, frame or ""};
--     {"none", ...} and {"miss", ...} as in get.lua; {"absent"}; {"unsure", incarnation}: Postgres may hold more pending writes;
--     {"moved", ...}: see run.lua.
-- include: run
-- include: common
-- include: moved
-- include: reading
-- include: values
-- include: delivering
local m, x = load()
if not m then
  if holds(x, now_ms()) and x[1] == 'vacant' then return {'none', ''} end
  return {'absent'}
end
if moved(m) then return moved_reply(m) end
local ns, id = ARGV.ns, ARGV.id
local n = load_ns(ns)
if id == '' and n and n.head ~= '' and (m.whole == 1 or n.sure) then id = n.head end
if id == '' or not n or not is_here(place_of(ns, id)) then
  if m.whole == 1 then return {'none', m.incarnation} end
  return {'miss', m.incarnation, {}, m.flushed}
end
if not n.sure then return {'unsure', m.incarnation} end
local open_channels, left = {}, 0
for i = AT.channels, #ARGV do
  if not open_channels[ARGV[i]] then left = left + 1 end
  open_channels[ARGV[i]] = true
end
local room, most = tonumber(ARGV.room), tonumber(ARGV.most)
local function of_channels(place)
  local kept, size = writes_to(place, open_channels)
  room = room - size
  return kept
end
local ancestors = {}
local parent = link(place_of(ns, id)).parent
local visited = {[id] = true}
local goes_on = false
while parent ~= '' and not visited[parent] and left > 0 and not goes_on do
  local place = place_of(ns, parent)
  local frame = hget('c' .. place)
  if not frame then break end
  visited[parent] = true
  local writes, seeds, needs_frame = of_channels(place), {}, ''
  local f = header(frame, 'c' .. place)
  for _, field in ipairs(f[4]) do
    local channel = channel_of(field)
    if open_channels[channel] then
      local value = hget(field)
      if value and string.sub(value, HEAD + 1, HEAD + 6) ~= 'empty\0' then
        local reply, bytes = delivered(value, field)
        seeds[#seeds + 1] = channel
        seeds[#seeds + 1] = reply
        room = room - bytes
        open_channels[channel] = nil
        left = left - 1
      end
    end
  end
  for i = 1, #f[5] do
    local channel = f[5][i]
    if open_channels[channel] then
      seeds[#seeds + 1] = channel
      seeds[#seeds + 1] = false
      needs_frame = frame
      open_channels[channel] = nil
      left = left - 1
    end
  end
  ancestors[#ancestors + 1] = {parent, seeds, writes, needs_frame}
  parent = link(place).parent
  goes_on = room <= 0 or #ancestors == most
end
goes_on = goes_on and parent ~= '' and not visited[parent] and left > 0
if left == 0 or (m.whole == 1 and not goes_on) or visited[parent] then parent = '' end
local still = {}
for channel in pairs(open_channels) do still[#still + 1] = channel end
local early = parent ~= '' and not goes_on and writes_of(place_of(ns, parent)) or {}
return {'walk', m.incarnation, ancestors, parent, early, still, goes_on and '1' or '0'}
