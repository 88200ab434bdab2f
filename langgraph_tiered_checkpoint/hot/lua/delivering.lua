-- Shared by the scripts that reply with values; they include values.lua first. A reply has a value as it is or, if it is
-- made of an arena, {value, n, piece, n, piece, ...} with those pieces of the arena that it has not given before.
local given = {}

-- What is replied of a value, and how many bytes there are in the value.
local function delivered(value, field)
  if not value or string.byte(value) ~= RECIPE then return value, value and #value end
  local arena, size, items = open_recipe(value, field)
  local reply, fields, wanted, bytes = {value}, {}, {}, 0
  for i = 1, #items do
    local item = items[i]
    if type(item) == 'string' then
      bytes = bytes + #item
    else
      local first, last = span(size, item[1], item[2])
      for n = first, last do
        local field = piece_field(arena, n)
        if not given[field] then
          given[field] = true
          fields[#fields + 1] = field
          wanted[#wanted + 1] = n
        end
      end
      bytes = bytes + item[2]
    end
  end
  if #fields == 0 then return reply, bytes end
  local pieces = hmget(fields)
  for i = 1, #wanted do
    reply[2 * i] = wanted[i]
    reply[2 * i + 1] = pieces[i]
  end
  return reply, bytes
end
