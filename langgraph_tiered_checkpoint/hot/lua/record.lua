-- Shared by the scripts that reply with whole checkpoints; they include delivering.lua first.
-- A checkpoint as replies give it: namespace, id, parent, frame, values aligned with its refs (see delivering.lua), pending
-- writes, and those of its parent that are its pending sends. Of a value whose tag is `known`, by key, it says 1. Returns
-- also how many bytes there are in all of it, and its header.
local function record(ns, k, with_values, known)
  local frame = hget('c' .. k)
  local num, id = split(k)
  local f, parent = header(frame, 'c' .. k), link(k)[5]
  local values, writes, sends, size = {}, {}, {}, #frame
  if with_values then
    local refs, fields = f[4], {}
    for i = 1, #refs, 2 do fields[#fields + 1] = 'b' .. blob_key(num, refs[i], refs[i + 1]) end
    if #fields > 0 then values = hmget(fields) end
    for i = 1, #values do
      local value = values[i]
      local tag = value and known and known[string.sub(fields[i], 2)]
      if tag and tag_of(value) == tag then
        values[i] = 1
      elseif value then
        local reply, bytes = delivered(value, fields[i])
        values[i], size = reply, size + bytes
      end
    end
    writes = writes_of(k)
    for i = 1, #writes do size = size + (writes[i] and #writes[i] or 0) end
    if f[6] and parent ~= '' then
      local found, bytes = sends_of(num .. ':' .. parent)
      sends, size = found, size + bytes
    end
  end
  return {ns, id, parent, frame, values, writes, sends}, size, f
end
