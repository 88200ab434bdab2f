-- copy_out: one page of all that a thread holds, field by field. Pages fit together while the meta is the same.
--
-- KEYS: thread
-- ARGV: cursor most room
--   cursor  "0" first;  most  fields, and  room  bytes, after which to stop, about; and, last, see run.lua
-- Reply: {"thread", state, the two fields of the meta, joined, next cursor, field, value, ...}, no fields if it is not
--     ephemeral; {"absent"}; {"moved", ...}: see run.lua
-- include: run
-- include: common
-- include: moved
local m = load()
if not m then return {'absent'} end
if moved(m) then return moved_reply(m) end
local meta = {hget('s'), hget('m')}
local reply, cursor, size = {'thread', m.state, pack(meta), '0'}, ARGV.cursor, 0
if m.state ~= 'e' then return reply end
local most = 4 + 2 * tonumber(ARGV.most)
repeat
  local page = call('HSCAN', T, cursor, 'COUNT', 20)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local field, value = page[2][i], page[2][i + 1]
    if field ~= 'm' and field ~= 's' then
      reply[#reply + 1] = field
      reply[#reply + 1] = value
      size = size + #field + #value
    end
  end
until cursor == '0' or #reply >= most or size >= tonumber(ARGV.room)
reply[4] = cursor
return reply
