-- changes: what the changes after a given one touched, as it stands now.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] change id that was flushed, as the caller saw it  [3] number of the last change already copied
--     [4] bytes after which to stop
-- Reply: {"changes", last change id read, its number, rows, "1" if there are more, run id of the server}, {"gone"} also
--     if it is not for Postgres: see `for_postgres`;
--     rows: {"c", namespace, id, parent, frame}, {"b", namespace, channel, version, value}, {"w", namespace, id, frame}
-- include: common
-- include: run
-- include: values
-- include: delivering
-- include: copying
local m = load()
if not for_postgres(m, ARGV[1], ARGV[2]) then return {'gone'} end
local LOOK = 32 -- changes whose entries are read at once
local MOST = 2000 -- changes in one page
local at, budget = tonumber(ARGV[3]), tonumber(ARGV[4])
local rows, sent, op, size, read = {}, {}, '', 0, 0

-- Add a field to a list, unless the reply has it already. Returns whether it did.
local function want(field, fields)
  if sent[field] then return false end
  sent[field] = true
  fields[#fields + 1] = field
  return true
end

local function checkpoint(k, what)
  local fields, blobs = {}, {}
  local is_new = want('c' .. k, fields)
  if is_new then fields[2] = 'l' .. k end
  for i = 4, #what do
    if want('b' .. what[i], fields) then blobs[#blobs + 1] = what[i] end
  end
  if #fields == 0 then return end
  local values, num, id = hmget(fields), split(k)
  local ns, before = name_of(num), 0
  if is_new then
    before = 2
    local frame = values[1]
    if frame then
      rows[#rows + 1] = {'c', ns, id, open_link(values[2], 'l' .. k)[5], frame}
      size = size + #frame
    end
  end
  for i = 1, #blobs do
    local value = values[before + i]
    if value then
      local row, bytes = value_row(blobs[i], value)
      rows[#rows + 1] = row
      size = size + bytes
    end
  end
end

local function writes(k, what)
  local fields = {}
  for i = 4, #what do want(write_field(k, what[i]), fields) end
  if #fields == 0 then return end
  local frames, num, id = hmget(fields), split(k)
  local ns = name_of(num)
  for i = 1, #fields do
    local frame = frames[i]
    if frame then
      rows[#rows + 1] = {'w', ns, id, frame}
      size = size + #frame
    end
  end
end

while at < m.ch and size < budget and read < MOST do
  local entries = {}
  for i = 1, math.min(LOOK, m.ch - at) do entries[i] = 'g' .. at + i end
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
return {'changes', at .. '.' .. op, at, rows, at < m.ch and '1' or '0', RUN}
