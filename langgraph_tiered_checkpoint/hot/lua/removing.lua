-- Shared by the scripts that take pending writes out of a thread; they include reading.lua first.
local MOST_LOOKED_AT = 10000 -- pending writes in one script, about

-- Add the fields of a checkpoint's pending writes to a list. All of them are looked at before any of them goes.
local function add_writes(place, out)
  local fields = {}
  if write_fields(place, fields) == 0 then return end
  local frames = hmget(fields)
  for i = 1, #frames do
    local w = write_header(frames[i], fields[i])
    out[#out + 1] = fields[i]
    out[#out + 1] = ordinal_field(place, w[2], w[1])
  end
  out[#out + 1] = 'y' .. place
end
