-- made_of: one page of what is still needed of what may have to be erased.
--
-- KEYS: thread
-- ARGV: incarnation cursor most
--   cursor  a place, "" at first;  most  values to look at, about
-- Reply: {"made_of", last change number, next cursor or "", arenas, stretches, values that may go, values that may not};
--     {"none"}: nothing has to be erased; {"changed"}: the cursor is not there any more; {"gone"}
--     arenas: arena, bytes, piece size, ..., of one that is gone with 0 bytes; stretches: arena, offset, length, ...; values:
--     names of their fields
-- include: common
-- include: values
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
if not m.left then return {'none'} end
local found, values, kept, wanted = {}, {}, {}, {}
for _, name in ipairs(m.left) do
  if string.find(name, '\0', 1, true) then
    values[#values + 1] = name
    wanted[name] = true
  else
    local bytes, size = size_of(name)
    wanted[name] = bytes ~= nil
    for _, figure in ipairs({name, bytes or 0, size or 1}) do found[#found + 1] = figure end
  end
end
local cur, stretches, looked, seen = ARGV.cursor == '' and m.newest or ARGV.cursor, {}, 0, {}
if cur ~= '' and not is_here(cur) then return {'changed'} end
while cur ~= '' and looked < tonumber(ARGV.most) do
  looked = looked + 1
  for _, field in ipairs(header(hget('c' .. cur), 'c' .. cur)[4]) do
    looked = looked + 1
    if not seen[field] then
      seen[field] = true
      if wanted[field] then kept[#kept + 1] = field end
      for _, value in ipairs(recipes_in({field})) do
        local arena, _, items = open_recipe(value, field)
        for _, item in ipairs(wanted[arena] and items or {}) do
          if type(item) == 'table' then
            for _, figure in ipairs({arena, item[1], item[2]}) do stretches[#stretches + 1] = figure end
          end
        end
      end
    end
  end
  cur = link(cur).thread
end
return {'made_of', m.change, cur, found, stretches, values, kept}
