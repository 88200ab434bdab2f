-- scan: one page of everything that a thread holds, in no order. What is there from the first page to the last is
-- seen at least once; what changes meanwhile is seen before or after, so a torn copy is mended by replaying the log.
--
-- KEYS: thread
-- ARGV: incarnation flushed cursor most room
--   flushed  change id that was flushed, as the caller saw it;  cursor  "0" first
--   most     fields, and  room  bytes, after which to stop, about; and, last, see run.lua
-- Reply: {"scan", next cursor, rows as in copying.lua, last change number, state, run id of the server}; {"gone"} also if
--     it is not for Postgres: see `for_postgres`; the row of a pending write has its ordinal, last
-- include: run
-- include: common
-- include: values
-- include: delivering
-- include: copying
local m = load()
if not for_postgres(m, ARGV.incarnation, ARGV.flushed) then return {'gone'} end
local cursor, most_fields, most_bytes = ARGV.cursor, tonumber(ARGV.most), tonumber(ARGV.room)
-- One by one, where what a stride brings may be too much.
local STRIDE = m.bytes > most_bytes and 1 or math.min(20, most_fields)
local seen = 0
repeat
  local page = call('HSCAN', T, cursor, 'COUNT', STRIDE)
  local fields = page[2]
  cursor, seen = page[1], seen + #fields / 2
  for i = 1, #fields, 2 do
    local kind, rest, value = string.sub(fields[i], 1, 1), string.sub(fields[i], 2), fields[i + 1]
    if kind == 'c' then
      add_checkpoint(rest, value)
    elseif kind == 'b' then
      add_value(fields[i], value)
    elseif kind == 'w' then
      local place, ordinal = string.match(rest, '^(.*)%z(%d+)$')
      rows[#rows + 1] = {'w', place, value, tonumber(ordinal)}
      size = size + #value
    end
  end
until cursor == '0' or seen >= most_fields or size >= most_bytes
return {'scan', cursor, rows, m.change, m.state, RUN}
