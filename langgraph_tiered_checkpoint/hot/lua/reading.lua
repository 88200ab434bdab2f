-- Shared by the scripts that read checkpoints or pending writes.
local FEW = 1000 -- pending writes that may well be there

local function write_fields(k, out)
  local count = tonumber(hget('y' .. k) or 0)
  if not is_count(count, FEW) and not is_count(count, call('HLEN', T)) then unreadable('y' .. k) end
  for i = 1, count do out[#out + 1] = write_field(k, i) end
  return count
end

-- The pending writes of k, as frames.
local function writes_of(k)
  local fields = {}
  if write_fields(k, fields) == 0 then return {} end
  return hmget(fields)
end

-- Those that are, or may be, to some channels; and how many bytes there are in them.
local function writes_to(k, channels)
  local kept, size = {}, 0
  for _, frame in ipairs(writes_of(k)) do
    local to = header(frame)[3]
    for _, channel in ipairs(type(to) == 'table' and to or {to}) do
      if channels[channel] then
        kept[#kept + 1], size = frame, size + #frame
        break
      end
    end
  end
  return kept, size
end

-- The pending sends among them.
local function sends_of(k)
  return writes_to(k, {['__pregel_tasks'] = true})
end

-- Whether k, whose header is f, has pending sends at its parent.
local function has_sends_at_parent(k, f)
  local parent = f[6] and link(k)[5] or ''
  return parent ~= '' and #sends_of(split(k) .. ':' .. parent) > 0
end
