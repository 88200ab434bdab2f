-- Shared by the scripts that read a thread for Postgres; they include delivering.lua first.

-- Whether this is still what is to be copied. Not if the thread is ephemeral, perhaps again; and not, for a first copy,
-- if Postgres has had it since: then it may have been filled in from there, and deleted there.
local function for_postgres(m, incarnation, flushed)
  return m and m.i == incarnation and m.s ~= 'e' and (flushed ~= '' or m.fl == '')
end

local names = {}

local function name_of(num)
  if not names[num] then names[num] = hget('N' .. num) end
  return names[num]
end

-- A channel value as a row of the reply, and how many bytes there are in the value.
local function value_row(bk, value)
  local num, rest = split(bk)
  local length, text = split(rest)
  local reply, bytes = delivered(value)
  return {'b', name_of(num), string.sub(text, 1, length), string.sub(text, length + 1), reply}, bytes
end
