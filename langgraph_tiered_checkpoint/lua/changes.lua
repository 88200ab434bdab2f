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
local at, budget = tonumber(ARGV[3]), tonumber(ARGV[4])
local rows, sent, names, op, size = {}, {}, {}, '', 0
local function name_of(num)
  if not names[num] then names[num] = hget('N' .. num) end
  return names[num]
end
local function blob(bk)
  local value = not sent['b' .. bk] and hget('b' .. bk)
  sent['b' .. bk] = true
  if not value then return end
  local num, rest = split(bk)
  local length, text = split(rest)
  rows[#rows + 1] = {'b', name_of(num), string.sub(text, 1, length), string.sub(text, length + 1), delivered(value)}
  size = size + size_of(value)
end
local function checkpoint(k)
  local frame = not sent['c' .. k] and hget('c' .. k)
  sent['c' .. k] = true
  if not frame then return end
  local num, id = split(k)
  rows[#rows + 1] = {'c', name_of(num), id, link(k)[5], frame}
  size = size + #frame
end
local function write(k, ordinal)
  local field = write_field(k, ordinal)
  local frame = not sent[field] and hget(field)
  sent[field] = true
  if not frame then return end
  local num, id = split(k)
  rows[#rows + 1] = {'w', name_of(num), id, frame}
  size = size + #frame
end
while at < m.ch and size < budget do
  at = at + 1
  local what = hget('g' .. at)
  if what then
    what = open(what)
    op = what[1]
    if what[2] == 'c' then
      checkpoint(what[3])
      for i = 4, #what do blob(what[i]) end
    else
      for i = 4, #what do write(what[3], what[i]) end
    end
  end
end
return {'changes', at .. '.' .. op, at, rows, at < m.ch and '1' or '0', RUN}
