-- drop: remove checkpoints, with their writes and the values that only they used, as the client has found out from outlines.
-- A thread without checkpoints goes whole, unless writes wait in it for one that has not come yet.
--
-- KEYS: thread due threads runs lapses
-- ARGV: thread_id incarnation trim change forks staying items...
--   trim     "1": of a promoted thread, what Postgres holds; "0": of an ephemeral one, for good
--   change   number of the last change, and  forks  number of forks (see common.lua), as of the outline
--   staying  packed list of what is to stay: namespace, checkpoint id, ...
--   items    what is to go, packed: {namespace, id, the next newer id in the namespace or "", the next newer place in the thread
--            or "", names of the fields of values, ...}; each as it is when those before it are gone
-- Reply: {"ok"}; {"more", how many of the items are done}: call again with the others; {"changed"}: nothing was dropped, for the
--     thread is not as it was; {"gone"}
-- include: common
-- include: reading
-- include: values
-- include: removing
-- include: runs
-- include: lists
local MOST_RUNS, MOST_TOUCHED = 2000, 1000
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
local is_trim = ARGV.trim == '1'
if (m.state == 'e') == is_trim or (is_trim and m.flushed == '') or m.forks ~= tonumber(ARGV.forks) then return {'changed'} end
local staying = cmsgpack.unpack(ARGV.staying)
for i = 1, #staying, 2 do
  if not is_here(place_of(staying[i], staying[i + 1])) then return {'changed'} end
end

-- What Postgres does not hold stays: what has been written to since.
local written = {}
if is_trim then
  if m.change - tonumber(ARGV.change) > MOST_TOUCHED then return {'changed'} end
  for change = math.max(tonumber(ARGV.change), m.flushed_number) + 1, m.change do
    local what = hget('g' .. change)
    what = what and open(what, 'g' .. change)
    if what then written[what[3]] = true end
  end
end

local spaces, gone, values, done, writes, started = {}, {}, {}, 0, 0, {}
for i = AT.items, #ARGV do
  local item = cmsgpack.unpack(ARGV[i])
  local ns, id, newer, above = item[1], item[2], item[3], item[4]
  local place = place_of(ns, id)
  local count = tonumber(hget('y' .. place) or 0)
  if done > 0 and (#values > MOST_LOOKED_AT or writes + count > MOST_LOOKED_AT) then break end
  spaces[ns] = spaces[ns] or load_ns(ns)
  local n = spaces[ns]
  if not n or written[place] or not is_here(place) then return {'changed'} end
  local l = link(place)
  if newer == '' and n.head ~= id or newer ~= '' and link(place_of(ns, newer)).older ~= id then return {'changed'} end
  if above == '' and m.newest ~= place or above ~= '' and link(above).thread ~= place then return {'changed'} end
  if newer == '' then
    n.head = l.older
  else
    link(place_of(ns, newer)).older, touched[place_of(ns, newer)] = l.older, true
  end
  if above == '' then m.newest = l.thread else link(above).thread, touched[above] = l.thread, true end
  if n.tail == id then n.tail = newer end
  if m.oldest == place then m.oldest = above end
  if is_trim then
    local root = ns == '' and id or header(hget('c' .. place), 'c' .. place)[1]
    if root ~= '' and less(m.horizon, root) then m.horizon = root end
    if newer == '' then
      n.floor, n.sure = NOWHERE, false
    elseif less(n.floor, newer) then
      n.floor = newer
    end
    m.whole = 0
  end
  m.checkpoints = m.checkpoints - 1
  if ns == '' then m.roots = m.roots - 1 end
  for j = 5, #item do values[#values + 1] = item[j] end
  gone[#gone + 1], writes, done = place, writes + count, done + 1
end
local is_empty = m.checkpoints == 0 and not is_trim
if done == 0 and not is_empty then return {'ok'} end

local fields = {}
for _, place in ipairs(gone) do
  add_writes(place, fields)
  touched[place] = nil
  fields[#fields + 1] = 'c' .. place
  fields[#fields + 1] = 'l' .. place
end
local leave, left = leaving(recipes_in(values))
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
local more = AT.items + done <= #ARGV
if is_empty then
  local _, others = forget_runs(KEYS.runs, ARGV.thread_id, MOST_RUNS)
  more = more or others
  if not others and m.early == 0 then
    call('ZREM', KEYS.due, ARGV.thread_id)
    strike(KEYS.threads, KEYS.lapses, ARGV.thread_id)
    call('UNLINK', T)
    return {'ok'}
  end
end
leave()
if not is_trim then note_left(m, left) end
for _, field in ipairs(values) do fields[#fields + 1] = field end
local out = {}
for ns, n in pairs(spaces) do
  if is_trim and n.head == '' and n.early == 0 and is_call(ns) then
    fields[#fields + 1] = 'h' .. ns
    fields[#fields + 1] = 'n' .. ns
  else
    add_ns(out, ns, n)
  end
end
hdel(fields)
add_meta(out, m)
add_links(out)
hset(out)
return more and {'more', done} or {'ok'}
