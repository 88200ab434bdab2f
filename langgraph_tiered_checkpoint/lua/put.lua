-- put: store one checkpoint with the channel values that are new.
--
-- KEYS, ARGV[1..21]: see write.lua
-- ARGV[22] parent id  [23] frame  [24] packed list of those refs of the frame, by position from 0, whose values must be
--     stored already  [25...] new values: channel, version, value, ...
-- Reply: {"ok", incarnation, state}, {"missing", the positions in [24] without a value} with nothing stored, or see `admit`.
-- include: common
-- include: run
-- include: storing
-- include: write
local now = now_ms()
local m, refused = admit(now)
if not m then return refused end
local ns, id, frame = ARGV[20], ARGV[21], ARGV[23]
local head = header(frame)
local n = need_ns(m, ns, head[1])
local counts, keys = uses(n[1], head[4])
local absent = {}
for _, position in ipairs(open(ARGV[24])) do
  if not counts[position + 1] then absent[#absent + 1] = position end
end
if #absent > 0 then return {'missing', absent} end
local k, blobs, fresh = store(m, n, id, ARGV[22], frame, 25, counts, keys)
if ns == '' then m.int = 0 end
local what = {OP, 'c', k}
for i = 1, #blobs do what[3 + i] = blobs[i] end
if fresh and head[3] ~= '' then call('ZADD', KEYS[4], 0, head[3] .. '\0' .. TID) end
return finish(m, ns, n, now, what)
