-- records: some checkpoints of a thread with their values and writes, as long as there is room for them: one at least.
--
-- KEYS[1] thread
-- ARGV[1] bytes after which the reply ends  [2...] namespace, id, ...; and see run.lua
-- Reply: {"records", a record or false for each: false if it is not here (any more)}; {"moved", ...}: see run.lua.
-- include: common
-- include: run
-- include: reading
-- include: values
-- include: delivering
-- include: record
local m = load()
if m and moved(m) then return moved_reply(m) end
local found, room = {}, tonumber(ARGV[1])
local i = 2
while i < #ARGV and (i == 2 or room > 0) do
  local n = m and load_ns(ARGV[i])
  local k = n and n[1] .. ':' .. ARGV[i + 1]
  local one, size = false, 0
  if k and call('HEXISTS', T, 'c' .. k) == 1 then one, size = record(ARGV[i], k, true) end
  found[i / 2], room, i = one, room - size, i + 2
end
return {'records', found}
