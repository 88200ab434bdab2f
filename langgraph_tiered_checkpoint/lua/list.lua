-- list: one page of checkpoints, newest first.
--
-- KEYS[1] thread
-- ARGV[1] "1" if only one namespace is wanted  [2] that namespace  [3] only ids below this one, or ""
--     [4] cursor: only below this (id), or ""  [5] and namespace of the cursor
--     [6] records at most  [7] "1" with values and writes  [8] only this id, in whatever namespaces: all in one page; or ""
-- Reply: {"page", incarnation, "1" if nothing can be elsewhere, floor, records, "1" if there is more}:
--     every checkpoint of the namespace at or above the floor is in this tier; a record has, last, "1" if all of its
--     pending writes are too.
--     {"none", ""}: no such thread in either tier. {"absent"}: nothing is known. {"moved", ...}: see run.lua.
-- include: common
-- include: run
-- include: reading
-- include: values
-- include: delivering
-- include: record
local m, x = load()
if not m then
  if holds(x, now_ms()) and x[1] == 'vacant' then return {'none', ''} end
  return {'absent'}
end
if moved(m) then return moved_reply(m) end
local one, ns = ARGV[1] == '1', ARGV[2]
local n = one and load_ns(ns)
local whole = m.wh == 1 and '1' or '0'
if one and not n then return {'page', m.i, whole, NOWHERE, {}, '0'} end
local older = one and 1 or 3
local cur = one and n[2] or m.th
local names, nums = {}, {}
local function name_of(num)
  if not names[num] then names[num] = hget('N' .. num) end
  return names[num]
end
local function start_at(k)
  if k and call('HEXISTS', T, 'l' .. k) == 1 then cur = link(k)[older] end
end
if ARGV[4] ~= '' then
  local c = one and n or load_ns(ARGV[5])
  start_at(c and c[1] .. ':' .. ARGV[4])
elseif one and ARGV[3] ~= '' then
  start_at(n[1] .. ':' .. ARGV[3])
end
local function below(k)
  local num, id = split(k)
  if ARGV[3] ~= '' and not less(id, ARGV[3]) then return false end
  if ARGV[4] == '' or less(id, ARGV[4]) then return true end
  return not one and id == ARGV[4] and less(name_of(num), ARGV[5])
end
local records, wanted, spaces = {}, tonumber(ARGV[6]), {}
local function give(k)
  local num, id = split(k)
  local name = name_of(num)
  local found = record(name, k, ARGV[7] == '1')
  spaces[name] = spaces[name] or load_ns(name)
  found[7] = vouches(m, spaces[name], id) and '1' or '0'
  records[#records + 1] = found
end
-- Those of the namespaces that have a checkpoint of this id, in the order of lists.
local function all_of(id)
  local ks, fields, found = {}, {}, {}
  for num = one and n[1] or 1, one and n[1] or m.nn do
    ks[#ks + 1] = num .. ':' .. id
    fields[#fields + 1] = 'l' .. ks[#ks]
  end
  local here = hmget(fields)
  for i, k in ipairs(ks) do
    if here[i] and below(k) then found[#found + 1] = k end
  end
  table.sort(found, function(a, b) return less(name_of(split(b)), name_of(split(a))) end)
  return found
end
if ARGV[8] ~= '' then
  for _, k in ipairs(all_of(ARGV[8])) do give(k) end
  cur = ''
end
while cur ~= '' and #records < wanted do
  if below(cur) then give(cur) end
  cur = link(cur)[older]
end
return {'page', m.i, whole, one and n[5] or NOWHERE, records, cur ~= '' and '1' or '0'}
