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
