-- orphan: cut the links of kept checkpoints to parents that are no longer there.
--
-- KEYS: thread
-- ARGV: incarnation places...
--   places  namespace, checkpoint id, ...
-- Reply: {"ok"}, {"gone"}
-- include: common
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
for i = AT.places, #ARGV, 2 do
  local place = place_of(ARGV[i], ARGV[i + 1])
  if is_here(place) then
    local l = link(place)
    if l.parent ~= '' and not is_here(place_of(ARGV[i], l.parent)) then
      l.parent, touched[place] = '', true
    end
  end
end
local out = {}
add_links(out)
if #out > 0 then hset(out) end
return {'ok'}
