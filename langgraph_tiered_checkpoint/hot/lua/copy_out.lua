-- copy_out: one page of all that a thread holds, field by field. Pages fit together while the meta is the same.
--
-- KEYS[1] thread
-- ARGV[1] cursor, "0" first  [2] fields and  [3] bytes after which to stop, about
-- Reply: {"thread", state, meta, next cursor, field, value, ...}, no fields if it is not ephemeral; {"absent"};
--     {"moved", ...}: see run.lua
-- include: common
-- include: run
local m = load()
if not m then return {'absent'} end
if moved(m) then return moved_reply(m) end
local reply, cursor, size = {'thread', m.s, hget('m'), '0'}, ARGV[1], 0
if m.s ~= 'e' then return reply end
local most = 4 + 2 * tonumber(ARGV[2])
repeat
  local page = call('HSCAN', T, cursor, 'COUNT', 20)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local field, value = page[2][i], page[2][i + 1]
    if field ~= 'm' then
      reply[#reply + 1] = field
      reply[#reply + 1] = value
      size = size + #field + #value
    end
  end
until cursor == '0' or #reply >= most or size >= tonumber(ARGV[3])
reply[4] = cursor
return reply
