-- erase: overwrite what no value needs any more of some pieces of an arena; or remove values that no checkpoint has. A value
-- that needs more than is said would be made by a later change.
--
-- KEYS: thread
-- ARGV: incarnation change name first last needed complete
--   change    last change number for which what is needed was found out
--   name      the arena; or the field of a value
--   first, last  pieces, from 0; the last before the first: none
--   needed    packed list of what is needed of them, ascending and apart: offset, length, ...
--   complete  "1" if that is all of the arena; "2" if a value is to be removed
-- Reply: {"ok"}; {"changed"}: nothing was done; {"gone"}
-- include: common
-- include: values
local m = load()
if not m or m.incarnation ~= ARGV.incarnation then return {'gone'} end
if m.change ~= tonumber(ARGV.change) then return {'changed'} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
local name, first, last, needed = ARGV.name, tonumber(ARGV.first), tonumber(ARGV.last), cmsgpack.unpack(ARGV.needed)
local out, fields, at = {}, {}, 1
for i = first, last do fields[#fields + 1] = piece_field(name, i) end
local pieces, size = {}, 0
if #fields > 0 then
  pieces = hmget(fields)
  local _, piece_size = size_of(name)
  size = piece_size
end

-- The piece that begins at `from` in the arena, with nothing but what is needed; false if that is nothing.
local function kept(piece, from)
  local parts, done, stop = {}, from, from + #piece
  while needed[at] and needed[at] < stop do
    local low, high = math.max(needed[at], from), math.min(needed[at] + needed[at + 1], stop)
    parts[#parts + 1] = string.rep('\0', low - done) .. string.sub(piece, low - from + 1, high - from)
    done = high
    if needed[at] + needed[at + 1] > stop then break end
    at = at + 2
  end
  return done > from and table.concat(parts) .. string.rep('\0', stop - done)
end

for i, piece in ipairs(pieces) do
  if piece and piece ~= '' then
    local new = kept(piece, (first + i - 1) * size)
    -- Another value may still be laid behind the last piece, if it is not full.
    if not new then new = #piece < size and string.rep('\0', #piece) or '' end
    if new ~= piece then
      out[#out + 1] = fields[i]
      out[#out + 1] = new
    end
  end
end
if ARGV.complete ~= '0' then
  local rest = {}
  for _, other in ipairs(m.left or {}) do
    if other ~= name then rest[#rest + 1] = other end
  end
  m.left = #rest > 0 and rest or nil
  if ARGV.complete == '2' then
    local leave, arenas = leaving(recipes_in({name}))
    leave()
    note_left(m, arenas)
    call('HDEL', T, name)
  end
  add_meta(out, m)
end
hset(out)
return {'ok'}
