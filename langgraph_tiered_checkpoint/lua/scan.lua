-- scan: one page of everything that a thread holds, in no order. What is there from the first page to the last is
-- seen at least once; what changes meanwhile is seen before or after, so a torn copy is mended by replaying the log.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] cursor, "0" first  [3] fields per page, about
-- Reply: {"scan", next cursor, rows as in changes.lua, last change number, state}, {"gone"} also if the thread is
--     ephemeral, perhaps again: then it is not for Postgres
-- include: common
-- include: values
-- include: delivering
local m = load()
if not m or m.i ~= ARGV[1] or m.s == 'e' then return {'gone'} end
local page = call('HSCAN', T, ARGV[2], 'COUNT', ARGV[3])
local rows, fields = {}, page[2]
for i = 1, #fields, 2 do
  local kind, rest, value = string.sub(fields[i], 1, 1), string.sub(fields[i], 2), fields[i + 1]
  if kind == 'c' then
    local num, id = split(rest)
    rows[#rows + 1] = {'c', hget('N' .. num), id, link(rest)[5], value}
  elseif kind == 'b' then
    local num, tail = split(rest)
    local length, text = split(tail)
    rows[#rows + 1] = {'b', hget('N' .. num), string.sub(text, 1, length), string.sub(text, length + 1), delivered(value)}
  elseif kind == 'w' then
    local num, tail = split(rest)
    rows[#rows + 1] = {'w', hget('N' .. num), string.match(tail, '^(.*)%z%d+$'), value}
  end
end
return {'scan', page[1], rows, m.ch, m.s}
