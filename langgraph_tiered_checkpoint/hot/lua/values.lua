-- Shared by the scripts that store or remove channel values: how often each is used, and what its bytes are made of.
--
-- A value is its kind, the 16 characters of the tag of the write that stored it, and then
--   kind W: its bytes, whole;
--   kind R: a recipe for them, a packed {arena, piece size, items}: an item is a string, or {offset, length} in the arena.
-- An arena is what several versions of one channel have in common, as pieces of one size that are only appended to, so a
-- recipe never refers to another recipe. A<arena> is {values made of it, bytes, piece size}, a<arena>:<n> its pieces from
-- 0; one that no value needs any more may be empty. r<bk> is how many checkpoints use a value, "<count>" or
-- "<count>:<arena>". Changes gather here until `add_values`.
local HEAD = 17
local WHOLE, RECIPE = 87, 82 -- "W", "R"
local TEXT = 64 -- bytes up to which an item stays in the recipe
local PIECE = 8192
local MOST_ITEMS, MOST_PIECES = 32, 512
local MOST_BYTES = 2 ^ 32

local function is_size(size, bytes)
  return is_count(size, MOST_BYTES) and size >= PIECE and is_count(bytes, MOST_PIECES * size)
end

-- Whether these are items that something of so many bytes can be put together from, `most` at most.
local function are_items(items, bytes, most)
  if type(items) ~= 'table' or #items > most then return false end
  for i = 1, #items do
    local item = items[i]
    if type(item) == 'table' then
      local offset, length = item[1], item[2]
      if not (is_count(offset, bytes) and is_count(length, bytes) and length > 0 and offset + length <= bytes) then
        return false
      end
    elseif type(item) ~= 'string' then
      return false
    end
  end
  return true
end

local tallies, arenas, left = {}, {}, {}

local function tag_of(value)
  return string.sub(value, 2, HEAD)
end

local function piece_field(number, i)
  return 'a' .. number .. ':' .. i
end

local function length_of(item)
  return type(item) == 'string' and #item or item[2]
end

-- The arena, piece size and items of a recipe; nothing if it makes no sense. It is looked at before anything is done as
-- often as it says.
local function recipe_of(value)
  local sound, recipe = pcall(cmsgpack.unpack, string.sub(value, HEAD + 1))
  if not sound or type(recipe) ~= 'table' then return end
  local number, size, items = recipe[1], recipe[2], recipe[3]
  if is_count(number, MOST_BYTES) and is_size(size, 0) and are_items(items, MOST_PIECES * size, MOST_ITEMS) then
    return number, size, items
  end
end

local function open_recipe(value, field)
  local number, size, items = recipe_of(value)
  if not number then unreadable(field) end
  return number, size, items
end

-- The numbers of the first and the last piece that a stretch of an arena lies in.
local function span(size, offset, length)
  return math.floor(offset / size), math.floor((offset + length - 1) / size)
end

-- Load how often some values are used: tallies[bk] is {count, arena or false}, count 0 if there is no such value.
local function load_tallies(keys)
  local fields, missing = {}, {}
  for i = 1, #keys do
    if not tallies[keys[i]] then
      missing[#missing + 1] = keys[i]
      fields[#fields + 1] = 'r' .. keys[i]
    end
  end
  if #fields == 0 then return end
  local found = hmget(fields)
  for i = 1, #missing do
    local count, number = tonumber(found[i] or 0), false
    if not count then
      count, number = string.match(found[i], '^(%d+):(%d+)$')
      count, number = tonumber(count), tonumber(number)
      if not count then unreadable(fields[i]) end
    end
    tallies[missing[i]] = {count, number, count}
  end
end

local function tally(bk)
  if not tallies[bk] then load_tallies({bk}) end
  return tallies[bk]
end

-- The keys of the values that a frame refers to; how often they are used is loaded.
local function keys_of(num, refs)
  local keys = {}
  for i = 1, #refs, 2 do keys[#keys + 1] = blob_key(num, refs[i], refs[i + 1]) end
  load_tallies(keys)
  return keys
end

local function use(bk, times)
  local t = tally(bk)
  t[1] = t[1] + times
  t.touched = true
  if t[1] == 0 and t[2] then left[t[2]] = true end
end

local function arena(number)
  if not arenas[number] then
    local field = 'A' .. number
    local a = open(hget(field), field)
    if not (is_count(a[1], MOST_BYTES) and is_size(a[3], a[2])) then unreadable(field) end
    arenas[number] = a
  end
  return arenas[number]
end

-- The value is made of this arena from now on, or of none.
local function move(bk, number)
  local t = tally(bk)
  if t[2] == number then return end
  for from, change in pairs({[t[2] or 0] = -1, [number or 0] = 1}) do
    if from ~= 0 then
      arena(from)[1] = arena(from)[1] + change
      arena(from).touched = true
    end
  end
  t[2] = number
  t.touched = true
end

-- Note in the meta which arenas hold what only values had that are gone now: it is to be erased. Not what a trim takes
-- away, which Postgres holds.
local function note_left(m)
  for _, number in ipairs(m.lf or {}) do left[number] = true end
  local all = {}
  for number in pairs(left) do all[#all + 1] = number end
  m.lf = #all > 0 and all or nil
end

-- Add what has changed to a list of fields and values, and what goes to a list of fields.
local function add_values(out, gone)
  for bk, t in pairs(tallies) do
    if t.touched then
      if t[1] > 0 then
        out[#out + 1] = 'r' .. bk
        out[#out + 1] = t[2] and t[1] .. ':' .. t[2] or t[1]
      elseif t[3] > 0 then
        move(bk, false)
        gone[#gone + 1] = 'r' .. bk
        gone[#gone + 1] = 'b' .. bk
      end
    end
  end
  for number, a in pairs(arenas) do
    if a.touched then
      if a[1] > 0 then
        out[#out + 1] = 'A' .. number
        out[#out + 1] = pack({a[1], a[2], a[3]})
      else
        gone[#gone + 1] = 'A' .. number
        for i = 0, math.ceil(a[2] / a[3]) - 1 do gone[#gone + 1] = piece_field(number, i) end
      end
    end
  end
end
