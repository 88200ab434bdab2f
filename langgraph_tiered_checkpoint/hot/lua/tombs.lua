-- What a delete leaves behind, in KEYS.gone: when it was, under a hash of the thread's id; and likewise of
-- an incarnation of it, or of the op of a call.
local function tomb(what)
  return redis.sha1hex(what[1]) .. ':' .. (what[2] or '')
end
