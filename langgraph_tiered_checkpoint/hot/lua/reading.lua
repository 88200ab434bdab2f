-- Shared by the scripts that read checkpoints or pending writes.
local FEW = 1000 -- pending writes that may well be there

local function write_fields(place, out)
  local count = tonumber(hget('y' .. place) or 0)
  if not is_count(count, FEW) and not is_count(count, call('HLEN', T)) then unreadable('y' .. place) end
  for i = 1, count do out[#out + 1] = write_field(place, i) end
  return count
end

-- The pending writes of a checkpoint, as frames.
local function writes_of(place)
  local fields = {}
  if write_fields(place, fields) == 0 then return {} end
  return hmget(fields)
end

-- Those that are, or may be, to some channels; and how many bytes there are in them.
local function writes_to(place, channels)
  local kept, size = {}, 0
  for _, frame in ipairs(writes_of(place)) do
    local to = write_header(frame)[3]
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
local function sends_of(place)
  return writes_to(place, {['__pregel_tasks'] = true})
end
