-- delta: follow the parents of a checkpoint and gather what they hold of some channels.
--
-- KEYS[1] thread
-- ARGV[1] namespace  [2] checkpoint id whose ancestors are wanted, "" for the latest  [3] bytes and  [4] ancestors after
--     which to stop  [5...] channels
-- Reply: {"walk", incarnation, ancestors, next ancestor or "", its pending writes, channels still open, "1" if it goes on
--     here: after the last of these ancestors, in another page; if not, the next ancestor is not here}
--     with each ancestor {id, {channel, value or false if it is inline, ...}, pending writes of these channels, frame or ""};
--     {"none", ...} and {"miss", ...} as in get.lua; {"absent"}; {"unsure", incarnation}: Postgres may hold more pending writes;
--     {"moved", ...}: see run.lua.
-- include: common
-- include: run
-- include: reading
-- include: values
-- include: delivering
local m, x = load()
if not m then
  if holds(x, now_ms()) and x[1] == 'vacant' then return {'none', ''} end
  return {'absent'}
end
if moved(m) then return moved_reply(m) end
local ns, id = ARGV[1], ARGV[2]
local n = load_ns(ns)
if id == '' and n and n[2] ~= '' and (m.wh == 1 or n[6] == 1) then id = id_of(n[2]) end
if id == '' or not n or call('HEXISTS', T, 'c' .. n[1] .. ':' .. id) == 0 then
  if m.wh == 1 then return {'none', m.i} end
  return {'miss', m.i, {}, m.fl}
end
if n[6] == 0 then return {'unsure', m.i} end
local open_channels, left = {}, 0
for i = 5, #ARGV do
  if not open_channels[ARGV[i]] then left = left + 1 end
  open_channels[ARGV[i]] = true
end
local room, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local function of_channels(k)
  local kept, size = writes_to(k, open_channels)
  room = room - size
  return kept
end
local ancestors = {}
local parent = link(n[1] .. ':' .. id)[5]
local visited = {[id] = true}
local goes_on = false
while parent ~= '' and not visited[parent] and left > 0 and not goes_on do
  local k = n[1] .. ':' .. parent
  local frame = hget('c' .. k)
  if not frame then break end
  visited[parent] = true
  local writes, seeds, needs_frame = of_channels(k), {}, ''
  local f = header(frame, 'c' .. k)
  for i = 1, #f[4], 2 do
    local channel = f[4][i]
    if open_channels[channel] then
      local value = hget('b' .. blob_key(n[1], channel, f[4][i + 1]))
      if value and string.sub(value, HEAD + 1, HEAD + 6) ~= 'empty\0' then
        local reply, bytes = delivered(value)
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
  parent = link(k)[5]
  goes_on = room <= 0 or #ancestors == most
end
goes_on = goes_on and parent ~= '' and not visited[parent] and left > 0
if left == 0 or (m.wh == 1 and not goes_on) or visited[parent] then parent = '' end
local still = {}
for channel in pairs(open_channels) do still[#still + 1] = channel end
local early = parent ~= '' and not goes_on and writes_of(n[1] .. ':' .. parent) or {}
return {'walk', m.i, ancestors, parent, early, still, goes_on and '1' or '0'}
