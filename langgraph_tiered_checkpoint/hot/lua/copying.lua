-- Shared by the scripts that read a thread for Postgres; they include delivering.lua first. Their rows are
--   {"c", place, frame, packed links or ""}, {"b", the name of a value's field, value}, {"w", place, frame}

-- Whether this is still what is to be copied. Not if the thread is ephemeral, perhaps again; and not, for a first copy,
-- if Postgres has had it since: then it may have been filled in from there, and deleted there.
local function for_postgres(m, incarnation, flushed)
  return m and m.incarnation == incarnation and m.state ~= 'e' and (flushed ~= '' or m.flushed == '')
end

local rows, size = {}, 0

local function add_checkpoint(place, frame)
  rows[#rows + 1] = {'c', place, frame, hget('l' .. place) or ''}
  size = size + #frame
end

local function add_value(field, value)
  local reply, bytes = delivered(value, field)
  rows[#rows + 1] = {'b', field, reply}
  size = size + bytes
end
