-- Shared by the scripts that take pending writes out of a thread; they include reading.lua first.
local MOST_LOOKED_AT = 10000 -- pending writes in one script, about
local looked_at = 0

local function drop_writes(place)
  local fields = {}
  if write_fields(place, fields) == 0 then return end
  looked_at = looked_at + #fields
  local frames = hmget(fields)
  for i = 1, #frames do
    local w = write_header(frames[i], fields[i])
    fields[#fields + 1] = ordinal_field(place, w[2], w[1])
  end
  fields[#fields + 1] = 'y' .. place
  hdel(fields)
end
