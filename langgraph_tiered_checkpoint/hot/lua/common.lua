-- Shared by every script that opens a thread. KEYS[1] is always the thread's hash.
--
-- Names of fields have ids in them, told apart by NUL, which no id holds. A place is a namespace, NUL, a checkpoint id.
--   s             what each write changes, packed by `struct`: see state.lua
--   m             what few writes change, a packed map of: flushed (last flushed change id), flushed_number, pinned, whole (1: all
--                 of the thread is here), horizon, oldest (last place in id order), early (checkpoints that are not here and have
--                 pending writes here), forks (writes that took over values from elsewhere than the head), reason, error,
--                 failures (in a row), rebase (upload all if 1, what was never acknowledged if 2, then drop), left (arenas that
--                 values have left: see values.lua), copied (in a copy, the last checkpoint id that was copied: what no run of
--                 its own wrote), again (1: a checkpoint was put again with other values: what others know of it may not be so)
--   e             end of a promoter's lease, ms
--   x             a marker instead of a thread: {kind, token, deadline ms, run id of the server}
--   h<ns>         "1" if every checkpoint of the namespace from the floor on is here with its pending writes, else "0"; then
--                 the id of its head
--   n<ns>         {tail, floor, early}: the id of the oldest checkpoint here, the one from which on all are here, and how many
--                 that are not here have pending writes here
--   c<place>      a checkpoint's record: see frames.py; l<place> its links {older, older in the thread (a place), parent},
--                 where they are not what most are: its parent, in its own namespace
--   b<ns>NUL<channel>NUL<version>  a channel value: see values.lua; A, u, a: what values are made of
--   y<place>      number of pending writes; w<place>NUL<n> one of them; p<place>NUL<idx>NUL<task> its n
--   g<change>     {op, what, place, ...}: what a change of a promoted thread touched
-- include: clock
-- include: state
-- include: order
-- include: tombs
local T = KEYS[1]
local call, pack = redis.call, cmsgpack.pack
local CHUNK = 3800 -- arguments of one command: managed services refuse 4,000
local MOST_CHANGES = 2 ^ 53
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

local function id_of(place)
  local _, id = split(place)
  return id
end

local function write_field(place, ordinal)
  return 'w' .. place .. '\0' .. ordinal
end

-- Where the ordinal of a write is noted.
local function ordinal_field(place, idx, task)
  return 'p' .. place .. '\0' .. idx .. '\0' .. task
end

-- A call's namespace has its task id after a ":" and goes with the root checkpoint that started it.
local function is_call(ns)
  return string.find(ns, ':', 1, true) ~= nil
end

-- Whether Postgres can hold nothing of a namespace that the root checkpoint `root` started.
local function call_is_new(m, ns, root)
  return root ~= '' and is_call(ns) and less(m.horizon, root)
end

-- Whether a checkpoint that is here has all of its pending writes here. One below the floor may have been put after
-- writes that came before it had been flushed and trimmed: its id is older than what was trimmed, by a clock that is slow.
local function vouches(m, n, id)
  return m.whole == 1 or (n.sure and not less(id, n.floor))
end

-- The parent of a checkpoint as its record has it, and where the record's header begins.
local function parent_in(frame, field)
  local high, low = string.byte(frame or '', 1, 2)
  if not low then unreadable(field) end
  local size = high * 256 + low
  return string.sub(frame, 3, 2 + size), 2 + size
end

-- The part of a checkpoint's record that scripts look at:
--   {root id, depth, run id, names of the fields of its values, inline channels}; and, last, 1 if its pending sends may be
--   among the writes of its parent: in formats before v4; 2 if so, and it was filled in: Postgres had none
-- Returns also where it ends.
local function header(frame, field)
  local _, at = parent_in(frame, field)
  local sound, stop, value = pcall(cmsgpack.unpack_one, frame, at)
  if not sound or type(value) ~= 'table' or type(value[4]) ~= 'table' then unreadable(field) end
  return value, stop < 0 and #frame or stop
end

-- The same of a pending write: {task id, idx, channel}; of many of one task, all with idx >= 0: {task id, "first-last idx",
-- channels}
local function write_header(frame, field)
  local sound, _, value = pcall(cmsgpack.unpack_one, frame)
  if not sound or type(value) ~= 'table' then unreadable(field) end
  return value
end

-- The field "s".
local function open_state(packed)
  local sound, state, reads, writes, interrupted, own_ttl, change, last_write, checkpoints, roots, bytes, dirty_since, created,
    ttl, hot_ttl = pcall(struct.unpack, STATE, packed)
  local run, incarnation, newest = string.match(packed, '^([^%z]*)%z([^%z]*)%z(.*)$', STATE_END)
  if not sound or not newest then unreadable('s') end
  return {
    state = string.char(state), interrupted = interrupted, own_ttl = own_ttl, change = change, last_write = last_write,
    checkpoints = checkpoints, roots = roots, bytes = bytes, dirty_since = dirty_since, created = created, ttl = ttl,
    hot_ttl = hot_ttl, run = run, incarnation = incarnation, newest = newest,
  }
end

local RARE = {
  'flushed', 'flushed_number', 'pinned', 'whole', 'horizon', 'oldest', 'early', 'forks', 'reason', 'error', 'failures', 'rebase',
  'left', 'copied', 'again',
}

-- Whether the thread is to be flushed only when it would expire otherwise.
local function waits(m)
  return m.state == 'd' and m.flushed == '' and m.reason == 'before expiry'
end

-- The fields of a thread's meta, to be stored.
local function state_of(m)
  local reads = m.rebase > 0 and 0 or m.whole == 1 and 2 or 1
  local writes = (m.rebase > 0 or m.left or m.again or waits(m)) and 0 or 1
  return struct.pack(
    STATE, string.byte(m.state), reads, writes, m.interrupted, m.own_ttl, m.change, m.last_write, m.checkpoints, m.roots,
    m.bytes, m.dirty_since, m.created, m.ttl, m.hot_ttl
  ) .. m.run .. '\0' .. m.incarnation .. '\0' .. m.newest
end

local function meta_of(m)
  local rare = {}
  for _, name in ipairs(RARE) do rare[name] = m[name] end
  return pack(rare)
end

local function add_meta(out, m)
  out[#out + 1] = 's'
  out[#out + 1] = state_of(m)
  out[#out + 1] = 'm'
  out[#out + 1] = meta_of(m)
end

-- The thread's meta, from its two fields.
local function open_meta(state, rare)
  if not state or not rare then unreadable(state and 'm' or 's') end
  local m, of = open_state(state), open(rare, 'm')
  if not is_count(m.change, MOST_CHANGES) then unreadable('s') end
  if type(of.flushed) ~= 'string' or not is_count(of.flushed_number, m.change) or type(of.rebase) ~= 'number' then
    unreadable('m')
  end
  for _, name in ipairs(RARE) do m[name] = of[name] end
  return m
end

-- The thread's meta and its marker, at most one of which exists. Either is looked at closely enough to be told from
-- anything else.
local function load()
  local v = redis.pcall('HMGET', T, 's', 'm', 'x')
  if v.err then
    if string.find(v.err, 'WRONGTYPE', 1, true) then damaged('its key holds no hash') end
    v = call('HMGET', T, 's', 'm', 'x') -- which fails again, in the words of the server
  end
  local m, x = nil, v[3] and open(v[3], 'x')
  if v[1] or v[2] then m = open_meta(v[1], v[2]) end
  if x and not tonumber(x[3]) then unreadable('x') end
  return m, x
end

-- A fill that is under way comes to nothing: what its reader has from Postgres may be old by now.
local function end_fill(x)
  if x and x[1] ~= 'closed' then call('UNLINK', T) end
end

-- A namespace's entry, if there is one: {sure, head, tail, floor, early}.
local function load_ns(ns)
  local v = call('HMGET', T, 'h' .. ns, 'n' .. ns)
  if not v[1] and not v[2] then return end
  if not v[1] or not v[2] then unreadable((v[1] and 'n' or 'h') .. ns) end
  local n = open(v[2], 'n' .. ns)
  if type(n[1]) ~= 'string' or type(n[2]) ~= 'string' or type(n[3]) ~= 'number' then unreadable('n' .. ns) end
  return {sure = string.sub(v[1], 1, 1) == '1', head = string.sub(v[1], 2), tail = n[1], floor = n[2], early = n[3]}
end

local function add_ns(out, ns, n)
  out[#out + 1] = 'h' .. ns
  out[#out + 1] = (n.sure and '1' or '0') .. n.head
  out[#out + 1] = 'n' .. ns
  out[#out + 1] = pack({n.tail, n.floor, n.early})
end

local links, touched = {}, {}

-- The links of a checkpoint that is here: {older, thread (older in the thread, a place), parent}.
local function link(place)
  local l = links[place]
  if not l then
    local field = 'l' .. place
    local packed = hget(field)
    if packed then
      local of = open(packed, field)
      l = {older = of[1], thread = of[2], parent = of[3]}
    else
      local parent = parent_in(hget('c' .. place), 'c' .. place)
      l = {older = parent, thread = parent ~= '' and place_of(split(place), parent) or '', parent = parent}
    end
    links[place] = l
  end
  return l
end

-- Add the links that have changed to a list of fields and values.
local function add_links(out)
  for place in pairs(touched) do
    local l = links[place]
    out[#out + 1] = 'l' .. place
    out[#out + 1] = pack({l.older, l.thread, l.parent})
  end
  touched = {}
end

local function is_here(place)
  return call('HEXISTS', T, 'c' .. place) == 1
end

local function touch_ttl(m)
  local ttl = 0
  if m.state == 'e' then ttl = m.ttl elseif m.state == 'c' then ttl = m.hot_ttl end
  if m.state == 'd' or ttl == 0 then call('PERSIST', T) else call('PEXPIRE', T, ttl) end
end
