-- records: some checkpoints of a thread with their values and writes, as long as there is room for them: one at least.
--
-- KEYS: thread
-- ARGV: room places...
--   room    bytes after which the reply ends
--   places  namespace, id, ...; and, last, see run.lua
-- Reply: {"records", a record or false for each: false if it is not here (any more)}; {"moved", ...}: see run.lua.
-- include: run
-- include: common
-- include: moved
-- include: reading
-- include: values
-- include: delivering
-- include: record
local m = load()
if m and moved(m) then return moved_reply(m) end
local found, room = {}, tonumber(ARGV.room)
local i = AT.places
while i < #ARGV and (i == AT.places or room > 0) do
  local one, size = false, 0
  if m and is_here(place_of(ARGV[i], ARGV[i + 1])) then one, size = record(ARGV[i], ARGV[i + 1], true) end
  found[i / 2], room, i = one, room - size, i + 2
end
return {'records', found}
