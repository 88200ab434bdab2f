-- put_writes: store pending writes of one task. They may arrive before their checkpoint.
-- The first write of a (task, idx) wins for idx >= 0, the last one for idx < 0. Of many at once, the first and the last
-- idx are together in place of one: whoever reads them sees to the rest (Parts.writes in frames.py).
--
-- KEYS: thread due threads runs gone lapses
-- ARGV: thread_id op incarnation confirmed cold since origin token flushed pinned ttl hot_ttl after checkpoints bytes
--     on_interrupt before_expiry reason interval ns id quick interrupt special looked_at fields...
--   thread_id to id  see put.lua
--   quick          "1" if none of them is an interrupt, and each is of another idx
--   interrupt      "1" if the writes hold an interrupt
--   special        of each write "1" if the last one wins, else "0", in one text
--   looked_at      how many fields are looked at
--   fields         their names: "s", the namespace's head, the number of writes, and where the ordinal of each write is noted;
--                  then the frames of the writes; and, last, see run.lua
-- Reply: {"ok", ...}: see `finish` in write.lua, or see `admit`.
-- include: clock
-- include: state
-- include: run
-- include: lists
-- include: order
-- include: quick
local COUNT = ARGV.looked_at - 3
local FRAMES = AT.fields + COUNT + 2 -- where the field before the first of them is
local place = place_of(ARGV.ns, ARGV.id)
local now = now_ms()

local function quickly()
  local found = redis.pcall('HMGET', KEYS.thread, unpack(ARGV, AT.fields, FRAMES))
  if not found[2] then return end
  local q, incarnation, newest = quick_state(found[1])
  if not q then return end
  for i = 1, COUNT do q[BYTES] = q[BYTES] + #ARGV[FRAMES + i] end
  if not stays(q, now) then return end
  local count = found[3]
  if count and not tonumber(count) then return end
  if not count and redis.call('HEXISTS', KEYS.thread, 'c' .. place) == 0 then return end
  local out, what, before = {}, {ARGV.op, 'w', place}, tonumber(count or 0)
  for i = 1, COUNT do
    if found[i + 3] then return end
    local frame, at = ARGV[FRAMES + i], before + i
    out[#out + 1] = ARGV[AT.fields + 2 + i]
    out[#out + 1] = at
    out[#out + 1] = 'w' .. place .. '\0' .. at
    out[#out + 1] = frame
    what[i + 3] = at
  end
  out[#out + 1] = 'y' .. place
  out[#out + 1] = before + COUNT
  return end_quickly(out, q, now, incarnation, newest, q[KIND] == DIRTY and cmsgpack.pack(what))
end
local done = ARGV.quick == '1' and quickly()
if done then return done end

-- include: common
-- include: values
-- include: storing
-- include: write
local m, refused = admit(now)
if not m then return refused end
local ns = ARGV.ns
local n = need_ns(m, ns)
local names = {unpack(ARGV, AT.fields + 3, FRAMES)}
local seen, places, had = {}, hmget(names), hget('y' .. place)
local count, what = tonumber(had or 0) or unreadable('y' .. place), {ARGV.op, 'w', place}
for i = 1, COUNT do
  local special, frame = string.sub(ARGV.special, i, i) == '1', ARGV[FRAMES + i]
  local at = seen[names[i]] or places[i]
  if not at then
    count = count + 1
    at = count
    add(names[i], at)
  elseif not special then
    at = nil
  end
  if at then
    seen[names[i]] = at
    m.bytes = m.bytes + #frame
    add(write_field(place, at), frame)
    what[#what + 1] = tonumber(at)
  end
end
if #what > 3 then
  if not had and not is_here(place) then n.early, m.early = n.early + 1, m.early + 1 end
  add('y' .. place, count)
end
if ARGV.interrupt == '1' then m.interrupted = 1 end
return finish(m, ns, n, now, pack(what))
