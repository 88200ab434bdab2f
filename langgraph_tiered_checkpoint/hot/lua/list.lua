-- list: one page of checkpoints, newest first.
--
-- KEYS[1] thread
-- ARGV[1] "1" if only one namespace is wanted  [2] that namespace  [3] only ids below this one, or ""
--     [4] cursor: only below this (id), or ""  [5] and namespace of the cursor
--     [6] records at most, about  [7] only this id, in whatever namespaces: all in one page; or ""
--     [8] bytes after which the page ends  [9] bytes after which records have no values and writes; 0: none has
--     [10] checkpoints looked at at most, about
-- Reply: {"page", incarnation, "1" if nothing can be elsewhere, floor, records, and, if there is more, the cursor to go on
--     with: id, namespace}: every checkpoint of the namespace at or above the floor is in this tier; a record has, last,
--     "1" if all of its pending writes and sends are too, and "1" if it comes with its values and writes.
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
if one and not n then return {'page', m.i, whole, NOWHERE, {}} end
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
  local id = id_of(k)
  if ARGV[3] ~= '' and not less(id, ARGV[3]) then return false end
  return ARGV[4] == '' or less(id, ARGV[4])
end
local records, wanted, spaces = {}, tonumber(ARGV[6]), {}
local room, room_for_values, most_steps = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local function give(k)
  local num, id = split(k)
  local name = name_of(num)
  local complete = room_for_values > 0
  local found, size, f = record(name, k, complete)
  room, room_for_values = room - size, room_for_values - size
  spaces[name] = spaces[name] or load_ns(name)
  local n_of = spaces[name]
  found[8] = vouches(m, n_of, id) and vouches_for_sends(m, n_of, f, found[3]) and '1' or '0'
  found[9] = complete and '1' or '0'
  -- Those of one id are linked in the order in which their namespaces came to be.
  local at = #records + 1
  while at > 1 and records[at - 1][2] == id and less(records[at - 1][1], name) do
    records[at] = records[at - 1]
    at = at - 1
  end
  records[at] = found
end
-- Those of the namespaces that have a checkpoint of this id.
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
  return found
end
if ARGV[7] ~= '' then
  for _, k in ipairs(all_of(ARGV[7])) do give(k) end
  cur = ''
end
local last, steps = nil, 0
local function goes_on()
  if #records < wanted and room > 0 and steps < most_steps then return true end
  return last and id_of(cur) == id_of(last) -- a cursor does not stand between those of one id
end
while cur ~= '' and goes_on() do
  if below(cur) then give(cur) end
  last, cur, steps = cur, link(cur)[older], steps + 1
end
local reply = {'page', m.i, whole, one and n[5] or NOWHERE, records}
if cur ~= '' then reply[6], reply[7] = id_of(last), name_of(split(last)) end
return reply
