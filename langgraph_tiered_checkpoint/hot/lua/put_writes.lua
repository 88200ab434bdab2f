-- put_writes: store pending writes of one task. They may arrive before their checkpoint.
-- The first write of a (task, idx) wins for idx >= 0, the last one for idx < 0. Of many at once, the first and the last
-- idx are together in place of one: whoever reads them sees to the rest (Parts.writes in frames.py).
--
-- KEYS, ARGV[1..21]: see write.lua
-- ARGV[22] task id  [23] "1" if the writes hold an interrupt  [24...] idx, frame, ...
-- Reply: {"ok", ...}: see `finish`, or see `admit`.
-- include: common
-- include: run
-- include: values
-- include: storing
-- include: lists
-- include: write
local MINUS = 45
local now = now_ms()
local m, refused = admit(now)
if not m then return refused end
local ns, id, task = ARGV[20], ARGV[21], ARGV[22]
local n = need_ns(m, ns)
local k = n[1] .. ':' .. id
local keys, seen = {}, {}
for i = 24, #ARGV, 2 do keys[#keys + 1] = place_field(k, ARGV[i], task) end
local places = #keys > 0 and hmget(keys) or {}
local had = hget('y' .. k)
local count = tonumber(had or 0)
local what = {OP, 'w', k}
for i = 1, #keys do
  local special, frame = string.byte(ARGV[22 + 2 * i]) == MINUS, ARGV[23 + 2 * i]
  local at = seen[keys[i]] or places[i]
  if not at then
    count = count + 1
    at = count
    add(keys[i], at)
  elseif not special then
    at = nil
  end
  if at then
    seen[keys[i]] = at
    m.by = m.by + #frame
    add(write_field(k, at), frame)
    what[#what + 1] = tonumber(at)
  end
end
if #what > 3 then
  if not had and call('HEXISTS', T, 'c' .. k) == 0 then n[7] = n[7] + 1 end
  add('y' .. k, count)
end
if ARGV[23] == '1' then m.int = 1 end
return finish(m, ns, n, now, what)
