-- scan: one page of everything that a thread holds, in no order. What is there from the first page to the last is
-- seen at least once; what changes meanwhile is seen before or after, so a torn copy is mended by replaying the log.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] change id that was flushed, as the caller saw it  [3] cursor, "0" first  [4] fields and
--     [5] bytes after which to stop, about
-- Reply: {"scan", next cursor, rows as in changes.lua, last change number, state, run id of the server}, {"gone"} also if
--     it is not for Postgres: see `for_postgres`; the row of a pending write has its ordinal, last
-- include: common
-- include: run
-- include: values
-- include: delivering
-- include: copying
local m = load()
if not for_postgres(m, ARGV[1], ARGV[2]) then return {'gone'} end
local cursor, most_fields, most_bytes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- One by one, where what a stride brings may be too much.
local STRIDE = m.by > most_bytes and 1 or math.min(20, most_fields)
local rows, seen, size = {}, 0, 0
repeat
  local page = call('HSCAN', T, cursor, 'COUNT', STRIDE)
  local fields = page[2]
  cursor, seen = page[1], seen + #fields / 2
  for i = 1, #fields, 2 do
    local kind, rest, value = string.sub(fields[i], 1, 1), string.sub(fields[i], 2), fields[i + 1]
    if kind == 'c' then
      local num, id = split(rest)
      rows[#rows + 1] = {'c', name_of(num), id, link(rest)[5], value}
      size = size + #value
    elseif kind == 'b' then
      local row, bytes = value_row(rest, value)
      rows[#rows + 1] = row
      size = size + bytes
    elseif kind == 'w' then
      local num, tail = split(rest)
      local id, ordinal = string.match(tail, '^(.*)%z(%d+)$')
      rows[#rows + 1] = {'w', name_of(num), id, value, tonumber(ordinal)}
      size = size + #value
    end
  end
until cursor == '0' or seen >= most_fields or size >= most_bytes
return {'scan', cursor, rows, m.ch, m.s, RUN}
