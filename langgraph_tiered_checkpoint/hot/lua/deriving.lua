-- Shared by the scripts that store values as differences against their predecessors; they include storing.lua.
--
-- A difference is a packed {version of the predecessor, its tag, items}: an item is a string, or {offset, length} in the
-- bytes of the predecessor. The sender knows these bytes by their tag, so a wrong guess never gets this far.

local MOST_STRETCHES = 64 -- in a difference

-- The pieces of the recipe in order, joined: adjacent strings, adjacent ranges.
local function join(items, item)
  local last = items[#items]
  if type(item) == 'string' then
    if type(last) == 'string' then items[#items] = last .. item else items[#items + 1] = item end
  elseif type(last) == 'table' and last[1] + last[2] == item[1] then
    last[2] = last[2] + item[2]
  else
    items[#items + 1] = {item[1], item[2]}
  end
end

-- Join to `items` the stretch of `from` that is `length` bytes long after `offset`.
local function join_stretch(items, from, offset, length)
  local at, stop = 0, offset + length
  for _, item in ipairs(from) do
    local n = length_of(item)
    local low, high = math.max(offset, at), math.min(stop, at + n)
    if low < high then
      if type(item) == 'string' then
        join(items, string.sub(item, low - at + 1, high - at))
      else
        join(items, {item[1] + low - at, high - low})
      end
    end
    at = at + n
  end
end

-- The bytes of the arena from `offset` on, read from its pieces.
local function stretch(number, size, offset, length)
  local fields, first, last = {}, span(size, offset, length)
  for i = first, last do fields[#fields + 1] = piece_field(number, i) end
  local pieces = hmget(fields)
  for i = 1, #fields do
    if not pieces[i] then unreadable(fields[i]) end
  end
  local from = offset - first * size
  return string.sub(table.concat(pieces), from + 1, from + length)
end

-- Append to an arena, or begin one.
local function lay(number, a, bytes)
  local i, rest = math.floor(a[2] / a[3]), a[2] % a[3]
  local begun = rest > 0 and (hget(piece_field(number, i)) or unreadable(piece_field(number, i)))
  local text = begun and begun .. bytes or bytes
  for at = 1, #text, a[3] do
    add(piece_field(number, i), string.sub(text, at, at + a[3] - 1))
    i = i + 1
  end
  a[2] = a[2] + #bytes
  a.touched = true
end

-- Whether a difference makes sense for this predecessor. If not, the value has to come whole.
local function fits(difference, base)
  local bytes = #base - HEAD
  if string.byte(base) == RECIPE then
    local number, _, items = recipe_of(base)
    if not number then return false end
    bytes = 0
    for _, item in ipairs(items) do bytes = bytes + length_of(item) end
  end
  return are_items(difference, bytes, MOST_STRETCHES)
end

-- Store a value as its difference says. Where that would take up more than the value itself, it is stored whole.
local function derive(m, bk, tag, base_bk, base, difference)
  local number, size, from, body, before = false, PIECE, nil, nil, 0
  if string.byte(base) == WHOLE then
    body = string.sub(base, HEAD + 1)
    while #body > MOST_PIECES / 4 * size do size = size * 2 end
    from, before = {{0, #body}}, #body
  else
    number, size, from = open_recipe(base, 'b' .. base_bk)
    before = arena(number)[2]
  end
  local joined, items, fresh, total, length = {}, {}, {}, 0, before
  for _, item in ipairs(difference) do
    if type(item) == 'string' then join(joined, item) else join_stretch(joined, from, item[1], item[2]) end
  end
  for _, item in ipairs(joined) do
    local n = length_of(item)
    total = total + n
    if type(item) == 'string' and n > TEXT then
      fresh[#fresh + 1] = item
      item = {length, n}
      length = length + n
    end
    join(items, item)
  end
  if #items > MOST_ITEMS or length > 2 * total + 2 * PIECE or length > MOST_PIECES * size then
    for i, item in ipairs(joined) do
      if type(item) == 'table' then
        if body then
          joined[i] = string.sub(body, item[1] + 1, item[1] + item[2])
        else
          joined[i] = stretch(number, size, item[1], item[2])
        end
      end
    end
    add('b' .. bk, 'W' .. tag .. table.concat(joined))
    move(bk, false)
    return
  end
  if body then
    m.na = m.na + 1
    number = m.na
    arenas[number] = {0, 0, size}
    table.insert(fresh, 1, body)
    add('b' .. base_bk, 'R' .. tag_of(base) .. pack({number, size, from}))
    move(base_bk, number)
  end
  if #fresh > 0 then lay(number, arena(number), table.concat(fresh)) end
  add('b' .. bk, 'R' .. tag .. pack({number, size, items}))
  move(bk, number)
end
