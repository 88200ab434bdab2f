-- outline: one page of where a thread's checkpoints stand, newest first.
--
-- KEYS[1] thread
-- ARGV[1] cursor k, "" at first  [2] entries at most
-- Reply: {"outline", incarnation, state, entries, next cursor or ""}, {"absent"};
--     an entry is {namespace, id, parent, root id, depth, run id or "" if it was copied}; the depth of a head whose sends
--     are at its parent is 1 at least
-- include: common
-- include: reading
local m = load()
if not m then return {'absent'} end
local cur, entries, names = m.th, {}, {}
if ARGV[1] ~= '' then
  if call('HEXISTS', T, 'l' .. ARGV[1]) == 0 then return {'outline', m.i, m.s, {}, '!'} end
  cur = ARGV[1]
end
local function needs_parent(k, f, ns)
  return f[6] and load_ns(ns)[2] == k and has_sends_at_parent(k, f)
end
while cur ~= '' and #entries < tonumber(ARGV[2]) do
  local num, id = split(cur)
  names[num] = names[num] or hget('N' .. num)
  local f = header_of(cur)
  local run = m.cp and not less(m.cp, id) and '' or f[3]
  local depth = f[2] == 0 and needs_parent(cur, f, names[num]) and 1 or f[2]
  entries[#entries + 1] = {names[num], id, link(cur)[5], f[1], depth, run}
  cur = link(cur)[3]
end
return {'outline', m.i, m.s, entries, cur}
