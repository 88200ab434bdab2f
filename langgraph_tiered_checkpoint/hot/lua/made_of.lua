-- made_of: one page of what is still needed of the arenas that values have left.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] cursor k, "" at first  [3] values to look at, about
-- Reply: {"made_of", last change number, next cursor or "", arenas, stretches}; {"none"}: there are no such arenas;
--     {"changed"}: the cursor is not there any more; {"gone"}
--     arenas: number, bytes, piece size, ..., of one that is gone with 0 bytes; stretches: number, offset, length, ...
-- include: common
-- include: values
local m = load()
if not m or m.i ~= ARGV[1] then return {'gone'} end
if not m.lf then return {'none'} end
local found, wanted = {}, {}
for _, number in ipairs(m.lf) do
  local a = hget('A' .. number) and arena(number)
  wanted[number] = a ~= nil
  for _, figure in ipairs(a and {number, a[2], a[3]} or {number, 0, 1}) do found[#found + 1] = figure end
end
local cur, stretches, looked, seen = ARGV[2] == '' and m.th or ARGV[2], {}, 0, {}
if cur ~= '' and call('HEXISTS', T, 'l' .. cur) == 0 then return {'changed'} end
while cur ~= '' and looked < tonumber(ARGV[3]) do
  local num = split(cur)
  for _, bk in ipairs(keys_of(num, header_of(cur)[4])) do
    looked = looked + 1
    if wanted[tally(bk)[2]] and not seen[bk] then
      seen[bk] = true
      local number, _, items = open_recipe(hget('b' .. bk), 'b' .. bk)
      for _, item in ipairs(items) do
        if type(item) == 'table' then
          for _, figure in ipairs({number, item[1], item[2]}) do stretches[#stretches + 1] = figure end
        end
      end
    end
  end
  cur = link(cur)[3]
end
return {'made_of', m.ch, cur, found, stretches}
