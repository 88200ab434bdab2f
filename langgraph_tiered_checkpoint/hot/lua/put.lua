-- put: store one checkpoint with the channel values that are new.
--
-- KEYS, ARGV[1..21]: see write.lua
-- ARGV[22] parent id  [23] frame  [24] packed list of those refs of the frame, by position from 0, whose values must be
--     stored already  [25...] new values: channel, version, value, ...; a value is as values.lua has it, or "D" and
--     a difference as in deriving.lua, whose tag is the op
-- Reply: {"ok", ...}: see `finish`; {"left", ...}: likewise, and some arenas hold what is to be erased; {"missing", positions of the refs whose values are not here, or whose predecessors
--     are not} with nothing stored, or see `admit`.
-- include: common
-- include: run
-- include: runs
-- include: values
-- include: storing
-- include: lists
-- include: deriving
-- include: write
local DIFFERENCE = 68 -- "D"
local now = now_ms()
local m, refused = admit(now)
if not m then return refused end
local ns, id, frame = ARGV[20], ARGV[21], ARGV[23]
local head = header(frame)
local n = need_ns(m, ns, head[1])
local keys = keys_of(n[1], head[4])
local absent, derived, position_of = {}, {}, {}
for position, key in ipairs(keys) do position_of[key] = position - 1 end
for _, position in ipairs(cmsgpack.unpack(ARGV[24])) do
  if tally(keys[position + 1])[1] == 0 then absent[#absent + 1] = position end
end
for i = 25, #ARGV, 3 do
  if string.byte(ARGV[i + 2]) == DIFFERENCE then
    local version, tag, items = unpack(cmsgpack.unpack(string.sub(ARGV[i + 2], 2)))
    local base_bk = blob_key(n[1], ARGV[i], version)
    local base = hget('b' .. base_bk)
    if base and tag_of(base) == tag and fits(items, base) then
      derived[i] = {base_bk, base, items}
    else
      absent[#absent + 1] = position_of[blob_key(n[1], ARGV[i], ARGV[i + 1])]
    end
  end
end
if #absent > 0 then return {'missing', absent} end
local function put_value(bk, i)
  local t = tally(bk)
  if derived[i] then
    local there = t[1] > 0 and hget('b' .. bk)
    if there and tag_of(there) == OP then return end -- the call is a repeated one
  end
  if t[2] then left[t[2]] = true end -- the value is replaced
  if derived[i] then derive(m, bk, OP, unpack(derived[i])) else put_whole(bk, i) end
end
local early = n[7] > 0
local k, blobs, fresh = store(m, n, id, ARGV[22], frame, 25, keys, put_value)
-- A new step answers what the run waited for; not so its own question, where that came first or the call is a repeated one.
if ns == '' and (fresh and not early or call('HEXISTS', T, 'y' .. k) == 0) then m.int = 0 end
local what = {OP, 'c', k}
for i = 1, #blobs do what[3 + i] = blobs[i] end
if fresh and head[3] ~= '' then note_run(KEYS[4], head[3], TID) end
note_left(m)
local reply = finish(m, ns, n, now, what)
if m.lf then reply[1] = 'left' end
return reply
