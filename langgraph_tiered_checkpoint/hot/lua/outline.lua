-- outline: one page of where a thread's checkpoints stand, newest first.
--
-- KEYS: thread
-- ARGV: cursor most
--   cursor  a place, "" at first;  most  entries
-- Reply: {"outline", incarnation, state, number of the last change, forks, last copied checkpoint id or "", entries, next cursor
--     or "", "!" if the cursor is not there any more, places that were written to and not flushed: on the first page, and false
--     if they are too many};
--     {"absent"}
--     an entry is {place, record up to the end of its header, packed links or "", "1" if it is a head whose sends are at its
--     parent}
-- include: common
-- include: reading
local MOST_UNFLUSHED, MOST_BYTES = 1000, 4000000
local m = load()
if not m then return {'absent'} end
local cur, entries, unflushed, heads, size = m.newest, {}, {}, {}, 0
if ARGV.cursor ~= '' then
  cur = ARGV.cursor
  if not is_here(cur) then cur = '!' end
elseif m.state == 'd' and m.change - m.flushed_number > MOST_UNFLUSHED then
  unflushed = false
elseif m.state == 'd' then
  for change = m.flushed_number + 1, m.change do
    local what = hget('g' .. change)
    what = what and open(what, 'g' .. change)
    if what then unflushed[#unflushed + 1] = what[3] end
  end
end
local function is_head(ns, id)
  if heads[ns] == nil then
    local n = load_ns(ns)
    heads[ns] = n and n.head or ''
  end
  return heads[ns] == id
end
while cur ~= '' and cur ~= '!' and #entries < tonumber(ARGV.most) and size < MOST_BYTES do
  local ns, id = split(cur)
  local frame = hget('c' .. cur)
  local f, stop = header(frame, 'c' .. cur)
  local l, sends = link(cur), '0'
  if f[6] and l.parent ~= '' and is_head(ns, id) and #sends_of(place_of(ns, l.parent)) > 0 then sends = '1' end
  entries[#entries + 1] = {cur, string.sub(frame, 1, stop), hget('l' .. cur) or '', sends}
  size, cur = size + stop, l.thread
end
return {'outline', m.incarnation, m.state, m.change, m.forks, m.copied or '', entries, cur, unflushed}
