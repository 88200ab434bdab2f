-- Shared by the scripts that reply with values; they include values.lua first. A reply has a value as it is or, if it is
-- made of an arena, {value, n, piece, n, piece, ...} with those pieces of the arena that it has not given before.
local given = {}

local function delivered(value)
  if not value or string.byte(value) ~= RECIPE then return value end
  local number, size, items = unpack(open(string.sub(value, HEAD + 1)))
  local reply, fields, wanted = {value}, {}, {}
  for _, item in ipairs(items) do
    if type(item) == 'table' then
      local first, last = span(size, item[1], item[2])
      for i = first, last do
        local field = piece_field(number, i)
        if not given[field] then
          given[field] = true
          fields[#fields + 1] = field
          wanted[#wanted + 1] = i
        end
      end
    end
  end
  if #fields == 0 then return reply end
  local pieces = hmget(fields)
  for i = 1, #wanted do
    reply[2 * i] = wanted[i]
    reply[2 * i + 1] = pieces[i]
  end
  return reply
end

-- How many bytes there are in a value.
local function size_of(value)
  if string.byte(value) ~= RECIPE then return #value end
  local size = 0
  for _, item in ipairs(open(string.sub(value, HEAD + 1))[3]) do size = size + length_of(item) end
  return size
end
