-- changes: what the changes after a given one touched, as it stands now.
--
-- KEYS: thread
-- ARGV: incarnation flushed after room
--   flushed  change id that was flushed, as the caller saw it;  after  number of the last change already copied
--   room     bytes after which to stop; and, last, see run.lua
-- Reply: {"changes", last change id read, its number, rows as in copying.lua, "1" if there are more, run id of the server};
--     {"gone"} also if it is not for Postgres: see `for_postgres`
-- include: run
-- include: common
-- include: values
-- include: delivering
-- include: copying
local m = load()
if not for_postgres(m, ARGV.incarnation, ARGV.flushed) then return {'gone'} end
local LOOK = 32 -- changes whose entries are read at once
local MOST = 2000 -- changes in one page
local at, budget = tonumber(ARGV.after), tonumber(ARGV.room)
local sent, op, read = {}, '', 0

-- Add a field to a list, unless the reply has it already. Returns whether it did.
local function want(field, fields)
  if sent[field] then return false end
  sent[field] = true
  fields[#fields + 1] = field
  return true
end

local function checkpoint(place, what)
  local fields = {}
  local is_new = want('c' .. place, fields)
  for i = 4, #what do want(what[i], fields) end
  if #fields == 0 then return end
  local values = hmget(fields)
  for i, field in ipairs(fields) do
    if i == 1 and is_new then
      if values[i] then add_checkpoint(place, values[i]) end
    elseif values[i] then
      add_value(field, values[i])
    end
  end
end

local function writes(place, what)
  local fields = {}
  for i = 4, #what do want(write_field(place, what[i]), fields) end
  if #fields == 0 then return end
  local frames = hmget(fields)
  for i = 1, #fields do
    local frame = frames[i]
    if frame then
      rows[#rows + 1] = {'w', place, frame}
      size = size + #frame
    end
  end
end

local LOOKS = 20000 -- changes that are looked for in one page
local stop = math.min(m.change, at + LOOKS)
while at < stop and size < budget and read < MOST do
  local entries = {}
  for i = 1, math.min(LOOK, stop - at) do entries[i] = 'g' .. at + i end
  local found, i = hmget(entries), 0
  while i < #entries and size < budget and read < MOST do
    i = i + 1
    local what = found[i]
    if what then
      read = read + 1
      what = open(what, entries[i])
      op = what[1]
      if what[2] == 'c' then checkpoint(what[3], what) else writes(what[3], what) end
    end
  end
  at = at + i
end
return {'changes', at .. '.' .. op, at, rows, at < m.change and '1' or '0', RUN}
