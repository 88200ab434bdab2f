-- Shared by the scripts that reply with whole checkpoints; they include delivering.lua first.
-- A checkpoint as replies give it: namespace, id, frame, packed links or "", values aligned with the names in its header (see
-- delivering.lua), pending writes, and those of its parent that are its pending sends. Of a value whose tag is `known`, by
-- the name of its field, it says 1. `leave_out` may set values to false. Returns also how many bytes there are in all of it, its header, and its parent.
local function record(ns, id, with_values, known, leave_out)
  local place = place_of(ns, id)
  local frame = hget('c' .. place)
  local f, parent = header(frame, 'c' .. place), link(place).parent
  local values, writes, sends, size = {}, {}, {}, #frame
  if with_values then
    local fields = f[4]
    if #fields > 0 then values = hmget(fields) end
    if leave_out then leave_out(fields, values) end
    for i = 1, #values do
      local value = values[i]
      local tag = value and known and known[fields[i]]
      if tag and tag_of(value) == tag then
        values[i] = 1
      elseif value then
        local reply, bytes = delivered(value, fields[i])
        values[i], size = reply, size + bytes
      end
    end
    writes = writes_of(place)
    for i = 1, #writes do size = size + (writes[i] and #writes[i] or 0) end
    if f[6] and parent ~= '' then
      local found, bytes = sends_of(place_of(ns, parent))
      sends, size = found, size + bytes
    end
  end
  return {ns, id, frame, hget('l' .. place) or '', values, writes, sends}, size, f, parent
end

-- Whether the sends of a checkpoint, given its header and its parent's id, are all here.
local function vouches_for_sends(m, n, f, parent)
  return f[6] ~= 1 or parent == '' or vouches(m, n, parent)
end
