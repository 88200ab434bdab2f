-- erase: overwrite what no value needs any more of some pieces of an arena. A value that needs more than is said would be
-- made by a later change.
--
-- KEYS[1] thread
-- ARGV[1] incarnation  [2] last change number for which what is needed was found out  [3] arena  [4] first and
--     [5] last piece, from 0; the last before the first: none  [6] packed list of what is needed of them, ascending and
--     apart: offset, length, ...  [7] "1" if that is all of the arena
-- Reply: {"ok"}; {"changed"}: nothing was done; {"gone"}
-- include: common
-- include: values
local m = load()
if not m or m.i ~= ARGV[1] then return {'gone'} end
if m.ch ~= tonumber(ARGV[2]) then return {'changed'} end
call('HDEL', T, 'x') -- allowed when Redis is full, and lets the rest of the script run
local number, first, last, needed = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), cmsgpack.unpack(ARGV[6])
local out, fields, at = {}, {}, 1
for i = first, last do fields[#fields + 1] = piece_field(number, i) end
local pieces = #fields > 0 and hmget(fields) or {}
local size = #pieces > 0 and arena(number)[3]

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
if ARGV[7] == '1' then
  local rest = {}
  for _, other in ipairs(m.lf or {}) do
    if other ~= number then rest[#rest + 1] = other end
  end
  m.lf = #rest > 0 and rest or nil
  out[#out + 1] = 'm'
  out[#out + 1] = pack(m)
end
hset(out)
return {'ok'}
