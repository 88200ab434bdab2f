-- Shared by the scripts that look into channel values.
--
-- A value is its kind, the 16 characters of the tag of the write that stored it, and then
--   kind W: its bytes, whole;
--   kind R: a recipe for them, a packed {arena, piece size, items, bytes of the arena}: an item is a string, or {offset,
--     length} in the arena.
-- An arena is what several versions of one channel have in common, as pieces of one size that are only appended to, so a
-- recipe never refers to another recipe. A<arena> is how many bytes it has, and its piece size; u<arena> how many values are made of it,
-- a<arena>NUL<n> its pieces from 0; one that no value needs any more may be empty. Arenas and recipes are made by the client
-- (recipes.py); that a recipe stays within its arena is made sure of whenever it is read.
local HEAD = 17
local RECIPE = 82 -- "R"
local PIECE = 8192
local MOST_ITEMS, MOST_PIECES = 32, 512
local MOST_BYTES = 2 ^ 32

local function tag_of(value)
  return string.sub(value, 2, HEAD)
end

local function piece_field(arena, i)
  return 'a' .. arena .. '\0' .. i
end

local function is_size(size, bytes)
  return is_count(size, MOST_BYTES) and size >= PIECE and is_count(bytes, MOST_PIECES * size)
end

-- The arena, piece size and items of a recipe.
local function open_recipe(value, field)
  local recipe = open(string.sub(value, HEAD + 1), field)
  local arena, size, items, bytes = recipe[1], recipe[2], recipe[3], recipe[4]
  if type(arena) ~= 'string' or not is_size(size, bytes) or type(items) ~= 'table' or #items > MOST_ITEMS then
    unreadable(field)
  end
  for i = 1, #items do
    local item = items[i]
    if type(item) == 'table' then
      local offset, length = item[1], item[2]
      if not (is_count(offset, bytes) and is_count(length, bytes) and length > 0 and offset + length <= bytes) then
        unreadable(field)
      end
    elseif type(item) ~= 'string' then
      unreadable(field)
    end
  end
  return arena, size, items
end

-- The numbers of the first and the last piece that a stretch of an arena lies in.
local function span(size, offset, length)
  return math.floor(offset / size), math.floor((offset + length - 1) / size)
end

-- How many bytes an arena has, and its piece size; nothing if it is not there.
local function size_of(arena)
  local text = hget('A' .. arena)
  if not text then return end
  local bytes, size = string.match(text, '^(%d+) (%d+)$')
  bytes, size = tonumber(bytes), tonumber(size)
  if not is_size(size, bytes) then unreadable('A' .. arena) end
  return bytes, size
end

local MOST_RECIPE = 8192 -- bytes of one

-- Those of the values in some fields that are recipes, which are short: the others may be long, and are not read.
local function recipes_in(fields)
  local found = {}
  for _, field in ipairs(fields) do
    local value = call('HSTRLEN', T, field) <= MOST_RECIPE and hget(field)
    if value and string.byte(value) == RECIPE then found[#found + 1] = value end
  end
  return found
end

-- Values are gone, or made of something else: count what arenas they were made of, and remove those that nothing is made of
-- any more. `gone` are the values as they were. Returns what does so, since all is looked at before; and the arenas that stay.
local function leaving(gone)
  local fewer, left, uses, fields = {}, {}, {}, {}
  for _, value in ipairs(gone) do
    if string.byte(value) == RECIPE then
      local arena = open_recipe(value)
      fewer[arena] = (fewer[arena] or 0) + 1
    end
  end
  for arena, count in pairs(fewer) do
    local others = (tonumber(hget('u' .. arena) or 0) or unreadable('u' .. arena)) - count
    if others > 0 then
      uses[#uses + 1] = 'u' .. arena
      uses[#uses + 1] = others
      left[#left + 1] = arena
    else
      local bytes, size = size_of(arena)
      fields[#fields + 1] = 'A' .. arena
      fields[#fields + 1] = 'u' .. arena
      for i = 0, bytes and math.ceil(bytes / size) - 1 or -1 do fields[#fields + 1] = piece_field(arena, i) end
    end
  end
  return function()
    if #uses > 0 then hset(uses) end
    if #fields > 0 then hdel(fields) end
  end, left
end

-- Note in the meta what may have to be erased: arenas that hold what only values had that are gone now, and fields of values
-- that a checkpoint has no more. Not what a trim takes away, which Postgres holds.
local function note_left(m, names)
  local all, noted = m.left or {}, {}
  for _, name in ipairs(all) do noted[name] = true end
  for _, name in ipairs(names) do
    if not noted[name] then all[#all + 1] = name end
  end
  m.left = #all > 0 and all or nil
end

-- The channel in the name of a value's field.
local function channel_of(field)
  return string.match(field, '^[^%z]*%z([^%z]*)%z') or unreadable(field)
end
