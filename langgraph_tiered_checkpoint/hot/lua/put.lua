-- put: store one checkpoint with the channel values that are new. The sender has packed everything: see recipes.py for what
-- becomes of a value that is a little different from one before.
--
-- KEYS: thread due threads runs gone lapses
-- ARGV: thread_id op incarnation confirmed cold since origin token flushed pinned ttl hot_ttl after checkpoints bytes
--     on_interrupt before_expiry reason interval ns id parent quick size root run_id log expected packed looked_at fields...
--   op             random, the same when the call is repeated; the tag of the values
--   confirmed      "1" if the thread is known to have existed in this incarnation;  cold  "1" with a cold tier
--   since          ms: a thread deleted since then is not to be brought back; 0 if unknown
--   origin         what Postgres said: "" unknown, "new", or "cold", with token, last flushed change id, "1" if pinned
--   ttl, hot_ttl   ms, 0 never
--   after, checkpoints, bytes, on_interrupt, before_expiry  policies of promotion: ms or -1; or 0; or 0; "1"; "1"
--   reason         to promote now, or "";  interval  ms until a promoter should flush
--   quick          "1", or "2" if the run is noted already, if the id is above its parent's, all that it takes over was
--                  stored with the parent, and nothing is packed
--   size           of the record and the values, in bytes
--   root           id of the root checkpoint that it runs under, or "";  run_id  or ""
--   log            packed entry of the log: {op, "c", place, names of the values' fields ...}
--   expected       packed list of those fields of values in the record, by position from 0, that have to be stored already
--   packed         the fields, packed, if they are too many for a command, else ""
--   looked_at      how many fields are looked at; their names: "s", the namespace's head, the number of writes
--                  that the checkpoint has already, then others
--   fields         first these names; then, for each of the others, what it has to be: "" absent, "=" and a text: that, "T" and
--                  17 bytes: a value that begins so, "B" and a packed {tag, piece size, arena, bytes}: a whole value with
--                  that tag, of which and these bytes the pieces of an arena are made; "+" and bytes: there, and these are
--                  appended; "u": a number, to be incremented; then fields and values to be stored; and, last, see run.lua
-- Reply: {"ok", ...}: see `finish` in write.lua; {"left", ...}: likewise, and something is to be erased: see values.lua;
--     {"missing", those of the expected that are not here}, with nothing stored: these, or something else is not as it has to
--     be; or see `admit`.
if ARGV.packed ~= '' then
  local run = table.remove(ARGV)
  for _, part in ipairs(cmsgpack.unpack(ARGV.packed)) do ARGV[#ARGV + 1] = part end
  ARGV[#ARGV + 1] = run
end
-- include: clock
-- include: state
-- include: run
-- include: runs
-- include: lists
-- include: order
-- include: quick
local WANTED = AT.fields + ARGV.looked_at -- what the fourth field has to be, and so on
local PAIRS = WANTED + ARGV.looked_at - 3

local MOST_STORED = 3700 -- arguments of one HSET

-- Whether all is as it has to be. Adds to a list what has to be stored for that. With a list `replaced`, values that should be
-- absent are added there instead.
local function compare(found, more, replaced)
  for i = 4, tonumber(ARGV.looked_at) do
    local value, wanted = found[i], ARGV[WANTED + i - 4]
    local kind = string.sub(wanted, 1, 1)
    if kind == '' then
      if value and not replaced then return false end
      if value then replaced[#replaced + 1] = value end
    elseif not value then
      return false
    elseif kind == 'B' then
      local tag, size, arena, fresh = unpack(cmsgpack.unpack(string.sub(wanted, 2)))
      if string.sub(value, 1, 17) ~= 'W' .. tag then return false end
      local text, piece = string.sub(value, 18) .. fresh, 0
      for at = 1, #text, size do
        more[#more + 1] = 'a' .. arena .. '\0' .. piece
        more[#more + 1] = string.sub(text, at, at + size - 1)
        piece = piece + 1
      end
    elseif kind == 'T' then
      if string.sub(value, 1, 17) ~= string.sub(wanted, 2) then return false end
    elseif kind == '=' then
      if value ~= string.sub(wanted, 2) then return false end
    else
      if kind ~= '+' and not tonumber(value) then return false end
      more[#more + 1] = ARGV[AT.fields + i - 1]
      more[#more + 1] = kind == '+' and value .. string.sub(wanted, 2) or value + 1
    end
  end
  return true
end

local now, place = now_ms(), place_of(ARGV.ns, ARGV.id)
local function quickly()
  local found = redis.pcall('HMGET', KEYS.thread, unpack(ARGV, AT.fields, WANTED - 1))
  if not found[2] or found[3] or string.sub(found[2], 2) ~= ARGV.parent then return end
  local q, incarnation, newest = quick_state(found[1])
  if not q then return end
  q[CHECKPOINTS], q[BYTES] = q[CHECKPOINTS] + 1, q[BYTES] + ARGV.size
  if ARGV.ns == '' then q[INTERRUPTED], q[ROOTS] = 0, q[ROOTS] + 1 end
  local below, more = place_of(ARGV.ns, ARGV.parent), {}
  if not stays(q, now) or not compare(found, more) or (newest ~= below and not comes_before(newest, place)) then return end
  if #ARGV - PAIRS + #more > MOST_STORED then return end
  local out = {unpack(ARGV, PAIRS)}
  for i = 1, #more do out[#out + 1] = more[i] end
  local n = #out
  out[n + 1], out[n + 2] = 'h' .. ARGV.ns, string.sub(found[2], 1, 1) .. ARGV.id
  if newest ~= below then out[n + 3], out[n + 4] = 'l' .. place, cmsgpack.pack({ARGV.parent, newest, ARGV.parent}) end
  if ARGV.quick == '1' and ARGV.run_id ~= '' then note_run(KEYS.runs, ARGV.run_id, ARGV.thread_id) end
  return end_quickly(out, q, now, incarnation, place, ARGV.log)
end
local done = ARGV.quick ~= '0' and quickly()
if done then return done end

-- include: common
-- include: values
-- include: storing
-- include: write
local m, refused = admit(now)
if not m then return refused end
local ns, id = ARGV.ns, ARGV.id
local n = need_ns(m, ns, ARGV.root)
local expected, missing, fields = cmsgpack.unpack(ARGV.expected), {}, header(ARGV[PAIRS + 1])[4]
for _, position in ipairs(expected) do
  if call('HEXISTS', T, fields[position + 1]) == 0 then missing[#missing + 1] = position end
end
local names, more, replaced = {}, {}, {}
for i = AT.fields, WANTED - 1 do names[#names + 1] = ARGV[i] end
local found = hmget(names)
local fits = compare(found, more, replaced)
for _, value in ipairs(replaced) do
  if tag_of(value) == ARGV.op then -- the call is a repeated one
    return {m.left and 'left' or 'ok', m.incarnation, waits(m) and 'w' or m.state, RUN}
  end
end
if #missing > 0 or not fits then return {'missing', missing} end
local is_fork = ARGV.quick == '0' or n.head ~= ARGV.parent or #replaced > 0
local leave, left = leaving(replaced)
leave()
for i = 1, #more, 2 do
  if #replaced > 0 and string.sub(more[i], 1, 1) == 'u' then more[i + 1] = (hget(more[i]) or 0) + 1 end
end
local gone = store(m, ns, n, id, ARGV[PAIRS + 1], tonumber(ARGV.size))
for i = PAIRS, #ARGV do out[#out + 1] = ARGV[i] end
for i = 1, #more do out[#out + 1] = more[i] end
if is_fork then m.forks = m.forks + 1 end
if gone and #gone > 0 then m.again = 1 end
-- A new step answers what the run waited for; not so its own question, where that came first or the call is a repeated one.
if ns == '' and not found[3] then m.interrupted = 0 end
if not gone and ARGV.run_id ~= '' then note_run(KEYS.runs, ARGV.run_id, TID) end
note_left(m, left)
note_left(m, gone or {})
local reply = finish(m, ns, n, now, ARGV.log)
if m.left then reply[1] = 'left' end
return reply
