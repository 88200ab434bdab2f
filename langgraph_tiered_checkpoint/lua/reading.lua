-- Shared by the scripts that read checkpoints or pending writes.
local function write_fields(k, out)
  local count = tonumber(hget('y' .. k) or 0)
  for i = 1, count do out[#out + 1] = write_field(k, i) end
  return count
end

-- The pending writes of k, as frames.
local function writes_of(k)
  local fields = {}
  if write_fields(k, fields) == 0 then return {} end
  return hmget(fields)
end

-- A checkpoint as replies give it: namespace, id, parent, frame, values aligned with its refs, pending writes.
local function record(ns, k, with_values)
  local frame = hget('c' .. k)
  local num, id = split(k)
  local values, writes = {}, {}
  if with_values then
    local refs, fields = header(frame)[4], {}
    for i = 1, #refs, 2 do fields[#fields + 1] = 'b' .. blob_key(num, refs[i], refs[i + 1]) end
    if #fields > 0 then values = hmget(fields) end
    writes = writes_of(k)
  end
  return {ns, id, link(k)[5], frame, values, writes}
end
