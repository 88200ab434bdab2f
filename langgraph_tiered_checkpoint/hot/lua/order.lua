-- Places, and their order. A place is a namespace, NUL, a checkpoint id.

-- Bytewise order: Lua's own `<` follows the server's locale. Equal stretches are skipped eight bytes at a time.
local function less(a, b)
  if a == b then return false end
  local i, n = 1, math.min(#a, #b)
  while i + 7 <= n and string.sub(a, i, i + 7) == string.sub(b, i, i + 7) do i = i + 8 end
  while i <= n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
    i = i + 1
  end
  return #a < #b
end

local function place_of(ns, id)
  return ns .. '\0' .. id
end

-- The namespace and the id of a place.
local function split(place)
  local nul = string.find(place, '\0', 1, true) or 0
  return string.sub(place, 1, nul - 1), string.sub(place, nul + 1)
end

-- Order in the thread: by id, then namespace.
local function comes_before(a, b)
  local ns_a, id_a = split(a)
  local ns_b, id_b = split(b)
  if id_a == id_b then return less(ns_a, ns_b) end
  return less(id_a, id_b)
end
