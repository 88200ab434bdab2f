-- Shared by every script that opens a thread. KEYS[1] is always the thread's hash.
--
-- Fields of the hash (k is "<namespace number>:<checkpoint id>", bk is "<namespace number>:<#channel>:<channel><version>"):
--   m           meta, a map: i incarnation, s state (e, d, c), ch last change number, fl last flushed change id,
--               fn its number, ct created ms, lw last write ms, ttl, ht TTLs ms (0 never), n checkpoints, by bytes,
--               pin, int (interrupted), wh (whole: all of the thread is here), hz horizon, nn namespaces ever,
--               th, tt head and tail of all checkpoints in id order, du dirty since ms, rs reason, er error,
--               bk failures in a row, rb (rebase: upload all if 1, what was never acknowledged if 2, then drop),
--               rn run id of the server under which it was last compared with Postgres, lf arenas that values have left
--               (absent if there are none): see `note_left` in values.lua; cp, in a copy, the last checkpoint id that was
--               copied: what no run of its own wrote
--   e           end of a promoter's lease, ms
--   x           a marker instead of a thread: {kind, token, deadline ms, run id of the server}
--   n<ns>       {number, head k, tail k, checkpoints, floor, sure, early}; N<number> the namespace. At or above the floor
--               every checkpoint is here, if sure with its pending writes; early counts the checkpoints that are not here
--               and have pending writes here
--   c<k>        the checkpoint's frame; l<k> its links {older, newer in the namespace, older, newer in the thread, parent},
--               the last three false if the same as in the namespace, and the parent if it is the older
--   b<bk>, r<bk> a channel value and how many checkpoints use it
--   y<k>        number of pending writes; w<k>NUL<n> one of them; k<k>NUL<idx>NUL<task> its n (an id may hold a colon)
--   g<change>   {op, what, ...}: what a change of a promoted thread touched
local T = KEYS[1]
local call, pack = redis.call, cmsgpack.pack
local CHUNK = 4000
local NOWHERE = '\244\143\191\191' -- above every id: U+10FFFF, which no id begins with

-- What is stored of this thread cannot be read. The caller tells this from every other error by its first word. A NUL
-- would end the text.
local function damaged(what)
  error('LGTDAMAGED ' .. string.gsub(what, '%z', ' '), 0)
end

local function unreadable(field)
  damaged(field and 'its field "' .. field .. '" cannot be read' or 'one of its fields cannot be read')
end

-- Whether something that was stored can be how often to do something: to be asked before it is done.
local function is_count(number, most)
  return type(number) == 'number' and number >= 0 and number <= most and number % 1 == 0
end

-- A packed list or map. `field` says where it was found.
local function open(packed, field)
  local sound, value = pcall(cmsgpack.unpack, packed)
  if not sound or type(value) ~= 'table' then unreadable(field) end
  return value
end

-- The part of a frame that scripts look at: a packed list before the bytes that only travel.
--   checkpoint: {root id, depth, run id, refs (channel, version, ...), inline channels}; and, last, 1 if its pending sends
--     may be among the writes of its parent: in formats before v4; 2 if so, and it was filled in: Postgres had none
--   pending write: {task id, idx, channel}; many of one task, all with idx >= 0: {task id, "first-last idx", channels}
local function header(frame, field)
  local sound, _, value = pcall(cmsgpack.unpack_one, frame)
  if not sound or type(value) ~= 'table' then unreadable(field) end
  return value
end

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- For what has to be told apart within a millisecond: when a thread was deleted, or found absent.
local function now_exactly()
  local t = call('TIME')
  return t[1] * 1000 + t[2] / 1000
end

local function hget(field)
  return call('HGET', T, field)
end

local function hmget(fields)
  local values = {}
  for from = 1, #fields, CHUNK do
    local part = call('HMGET', T, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
    for i = 1, #part do values[from + i - 1] = part[i] end
  end
  return values
end

local function hset(pairs_)
  for from = 1, #pairs_, CHUNK do
    call('HSET', T, unpack(pairs_, from, math.min(from + CHUNK - 1, #pairs_)))
  end
end

local function hdel(fields)
  for from = 1, #fields, CHUNK do
    call('HDEL', T, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
  end
end

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

local function split(k)
  local colon = string.find(k, ':', 1, true)
  return tonumber(string.sub(k, 1, colon - 1)), string.sub(k, colon + 1)
end

local function id_of(k)
  return string.sub(k, string.find(k, ':', 1, true) + 1)
end

local function before_in_ns(a, b)
  return less(id_of(a), id_of(b))
end

local function before_in_thread(a, b)
  local num_a, id_a = split(a)
  local num_b, id_b = split(b)
  if id_a == id_b then return num_a < num_b end
  return less(id_a, id_b)
end

local function blob_key(num, channel, version)
  return num .. ':' .. #channel .. ':' .. channel .. version
end

local function write_field(k, ordinal)
  return 'w' .. k .. '\0' .. ordinal
end

local function place_field(k, idx, task)
  return 'k' .. k .. '\0' .. idx .. '\0' .. task
end

-- A call's namespace has its task id after a ":" and goes with the root checkpoint that started it.
local function is_call(ns)
  return string.find(ns, ':', 1, true) ~= nil
end

-- Whether Postgres can hold nothing of a namespace that the root checkpoint `root` started.
local function call_is_new(m, ns, root)
  return root ~= '' and is_call(ns) and less(m.hz, root)
end

-- Whether a checkpoint that is here has all of its pending writes here. One below the floor may have been put after
-- writes that came before it had been flushed and trimmed: its id is older than what was trimmed, by a clock that is slow.
local function vouches(m, n, id)
  return m.wh == 1 or (n[6] == 1 and not less(id, n[5]))
end

-- Whether the sends of a checkpoint, given its header and its parent's id, are all here.
local function vouches_for_sends(m, n, f, parent)
  return f[6] ~= 1 or parent == '' or vouches(m, n, parent)
end

-- The thread's meta and its marker, at most one of which exists. Either is looked at closely enough to be told from
-- anything else.
local function load()
  local v = redis.pcall('HMGET', T, 'm', 'x')
  if v.err then
    if string.find(v.err, 'WRONGTYPE', 1, true) then damaged('its key holds no hash') end
    v = call('HMGET', T, 'm', 'x') -- which fails again, in the words of the server
  end
  local m, x = v[1] and open(v[1], 'm'), v[2] and open(v[2], 'x')
  if m and not (type(m.i) == 'string' and type(m.s) == 'string' and type(m.fl) == 'string' and type(m.ch) == 'number') then
    unreadable('m')
  end
  if x and not tonumber(x[3]) then unreadable('x') end
  return m, x
end

-- A fill that is under way comes to nothing: what its reader has from Postgres may be old by now.
local function end_fill(x)
  if x and x[1] ~= 'closed' then call('UNLINK', T) end
end

local function load_ns(ns)
  local field = 'n' .. ns
  local v = hget(field)
  return v and open(v, field)
end

-- The header of a checkpoint that is here.
local function header_of(k)
  local field = 'c' .. k
  return header(hget(field), field)
end

local links, touched = {}, {}

local function open_link(packed, field)
  local l = open(packed, field)
  if not l[3] then l[3] = l[1] end
  if not l[4] then l[4] = l[2] end
  if not l[5] then l[5] = id_of(l[1]) end
  return l
end

local function link(k)
  if not links[k] then
    local field = 'l' .. k
    links[k] = open_link(hget(field), field)
  end
  return links[k]
end

local function relink(k, slot, to)
  if k ~= '' then
    link(k)[slot] = to
    touched[k] = true
  end
end

-- Add the links that have changed to a list of fields and values.
local function add_links(out)
  for k in pairs(touched) do
    local l = links[k]
    local apart = l[1] == '' or l[5] ~= id_of(l[1])
    out[#out + 1] = 'l' .. k
    out[#out + 1] = pack({l[1], l[2], l[3] ~= l[1] and l[3], l[4] ~= l[2] and l[4], apart and l[5]})
  end
  touched = {}
end

local function tomb(what)
  return redis.sha1hex(what[1]) .. ':' .. (what[2] or '')
end

local function touch_ttl(m)
  local ttl = 0
  if m.s == 'e' then ttl = m.ttl elseif m.s == 'c' then ttl = m.ht end
  if m.s == 'd' or ttl == 0 then call('PERSIST', T) else call('PEXPIRE', T, ttl) end
end
