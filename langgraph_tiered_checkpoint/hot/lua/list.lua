-- list: one page of checkpoints, newest first.
--
-- KEYS: thread
-- ARGV: one ns below at_id at_ns limit only room value_room steps
--   one         "1" if only one namespace is wanted: ns;  below  only ids below this one, or ""
--   at_id, at_ns  cursor: only what comes after this id, or ""; and its namespace
--   limit       records at most, about;  only  only this id, or ""
--   room        bytes after which the page ends;  value_room  after which records have no values and writes; 0: none has
--   steps       checkpoints looked at at most, about; and, last, see run.lua
-- Reply: {"page", incarnation, "1" if nothing can be elsewhere, floor, records, and, if there is more, the cursor to go on
--     with: id, namespace}: every checkpoint of the namespace at or above the floor is in this tier; a record has, last,
--     "1" if all of its pending writes and sends are too, and "1" if it comes with its values and writes.
--     {"none", ""}: no such thread in either tier. {"absent"}: nothing is known. {"moved", ...}: see run.lua.
-- include: run
-- include: common
-- include: moved
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
local one, ns = ARGV.one == '1', ARGV.ns
local n = one and load_ns(ns)
local whole = m.whole == 1 and '1' or '0'
if one and not n then return {'page', m.incarnation, whole, NOWHERE, {}} end
local function older(place)
  local l = link(place)
  if not one then return l.thread end
  return l.older ~= '' and place_of(ns, l.older) or ''
end
local cursor = ARGV.at_id ~= '' and place_of(one and ns or ARGV.at_ns, ARGV.at_id)
local cur = m.newest
if one then cur = n.head ~= '' and place_of(ns, n.head) or '' end
local function start_below(place)
  if is_here(place) then cur = older(place) end
end
if cursor then
  start_below(cursor)
elseif one and ARGV.below ~= '' then
  start_below(place_of(ns, ARGV.below))
elseif ARGV.only ~= '' and (one or m.roots == m.checkpoints) then -- there are none of this id elsewhere
  cur = place_of(one and ns or '', ARGV.only)
  if not is_here(cur) then cur = '' end
end
local records, wanted, spaces = {}, tonumber(ARGV.limit), {}
local room, room_for_values, most_steps = tonumber(ARGV.room), tonumber(ARGV.value_room), tonumber(ARGV.steps)
local function is_wanted(place, id)
  if ARGV.only ~= '' and id ~= ARGV.only then return false end
  return (ARGV.below == '' or less(id, ARGV.below)) and (not cursor or comes_before(place, cursor))
end
local function give(place)
  local name, id = split(place)
  local complete = room_for_values > 0
  local found, size, f, parent = record(name, id, complete)
  room, room_for_values = room - size, room_for_values - size
  spaces[name] = spaces[name] or load_ns(name)
  local of = spaces[name]
  found[8] = vouches(m, of, id) and vouches_for_sends(m, of, f, parent) and '1' or '0'
  found[9] = complete and '1' or '0'
  records[#records + 1] = found
end
local last, steps = nil, 0
while cur ~= '' and ((#records < wanted and room > 0 and steps < most_steps) or not last) do
  local id = id_of(cur)
  if ARGV.only ~= '' and less(id, ARGV.only) then
    cur = ''
  else
    if is_wanted(cur, id) then give(cur) end
    last, cur, steps = cur, older(cur), steps + 1
  end
end
local reply = {'page', m.incarnation, whole, one and n.floor or NOWHERE, records}
if cur ~= '' then
  local name, id = split(last)
  reply[6], reply[7] = id, name
end
return reply
