-- put: store one checkpoint with the channel values that are new.
--
-- KEYS, ARGV[1..21]: see write.lua
-- ARGV[22] parent id  [23] frame  [24] "1" for a checkpoint of the root namespace
--     [25] refs that must be stored already: a packed list (channel, version, ...)
--     [26...] new values: channel, version, value, ...
-- Reply: {"ok", incarnation, state}, {"missing", positions in [25]} with nothing stored, or see `admit`.
-- include: common
-- include: write
local now = now_ms()
local m, refused = admit(now)
if not m then return refused end
local ns, id = ARGV[20], ARGV[21]
local known = load_ns(ns)
local expected = open(ARGV[25])
if #expected > 0 then
  local absent = missing(known and known[1] or 0, expected)
  if #absent > 0 then return {'missing', absent} end
end
local n = need_ns(m, ns)
local blobs = {}
for i = 26, #ARGV do blobs[#blobs + 1] = ARGV[i] end
local fresh = call('HEXISTS', T, 'c' .. n[1] .. ':' .. id) == 0
local frame = ARGV[23]
local k = store(m, n, id, ARGV[22], frame, blobs)
if ns == '' then m.int = 0 end
local what = {OP, 'c', k}
for i = 1, #blobs, 3 do what[#what + 1] = blob_key(n[1], blobs[i], blobs[i + 1]) end
local run = header(frame)[3]
if fresh and run ~= '' then call('ZADD', KEYS[4], 0, run .. '\0' .. TID) end
return finish(m, ns, n, now, what)
