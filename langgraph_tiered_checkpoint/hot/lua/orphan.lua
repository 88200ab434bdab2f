-- orphan: cut the links of kept checkpoints to parents that are no longer there.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2...] namespace, checkpoint id, ...
-- Reply: {"ok"}, {"gone"}
-- include: common
local m = load()
if not m or m.i ~= ARGV[1] then return {'gone'} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
for i = 2, #ARGV, 2 do
  local n = load_ns(ARGV[i])
  local k = n and n[1] .. ':' .. ARGV[i + 1]
  if k and call('HEXISTS', T, 'l' .. k) == 1 then
    local parent = link(k)[5]
    if parent ~= '' and call('HEXISTS', T, 'l' .. n[1] .. ':' .. parent) == 0 then relink(k, 5, '') end
  end
end
local out = {}
add_links(out)
if #out > 0 then hset(out) end
return {'ok'}
