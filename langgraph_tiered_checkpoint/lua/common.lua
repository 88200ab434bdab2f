-- Shared by every script that opens a thread. KEYS[1] is always the thread's hash.
--
-- Fields of the hash (k is "<namespace number>:<checkpoint id>", bk is "<namespace number>:<#channel>:<channel><version>"):
--   m           meta, a map: i incarnation, s state (e, d, c), ch last change number, fl last flushed change id,
--               fn its number, ct created ms, lw last write ms, ttl, ht TTLs ms (0 never), n checkpoints, by bytes,
--               pin, int (interrupted), wh (whole: all of the thread is here), hz horizon, nn namespaces ever,
--               th, tt head and tail of all checkpoints in id order, du dirty since ms, rs reason, er error,
--               bk failures in a row, rb (rebase: upload all, then drop)
--   e           end of a promoter's lease, ms
--   x           a marker instead of a thread: {kind, token, deadline ms}
--   n<ns>       {number, head k, tail k, checkpoints, floor, sure}; N<number> the namespace
--   c<k>        the checkpoint's frame; l<k> its links {older, newer in the namespace, older, newer in the thread, parent}
--   b<bk>, r<bk> a channel value and how many checkpoints use it
--   y<k>        number of pending writes; w<k>:<n> one of them; k<k>:<idx>:<task> its n
--   g<change>   {op, what, ...}: what a change of a promoted thread touched
local T = KEYS[1]
local call, pack, open = redis.call, cmsgpack.pack, cmsgpack.unpack
local CHUNK = 4000

-- The part of a frame that scripts look at: a packed list before the bytes that only travel.
--   checkpoint: {root id, depth, run id, refs (channel, version, ...), inline channels}
--   pending write: {task id, idx, channel}
local function header(frame)
  local _, value = cmsgpack.unpack_one(frame)
  return value
end

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
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

-- Bytewise order: Lua's own `<` follows the server's locale.
local function less(a, b)
  if a == b then return false end
  local n = math.min(#a, #b)
  for i = 1, n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
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

-- The thread's meta and its marker, at most one of which exists.
local function load()
  local v = call('HMGET', T, 'm', 'x')
  return v[1] and open(v[1]), v[2] and open(v[2])
end

local function load_ns(ns)
  local v = hget('n' .. ns)
  return v and open(v)
end

local links, touched = {}, {}

local function link(k)
  if not links[k] then links[k] = open(hget('l' .. k)) end
  return links[k]
end

local function relink(k, slot, to)
  if k ~= '' then
    link(k)[slot] = to
    touched[k] = true
  end
end

local function save_links()
  local out = {}
  for k in pairs(touched) do
    out[#out + 1] = 'l' .. k
    out[#out + 1] = pack(links[k])
  end
  if #out > 0 then hset(out) end
  touched = {}
end

-- Neighbours of k in the list from head to tail whose "older" link is in slot `older`.
local function place(head, tail, k, before, older)
  if head == '' then return '', '' end
  if before(head, k) then return head, '' end
  if before(k, tail) then return '', tail end
  local newer, cur = '', head
  while cur ~= '' and before(k, cur) do
    newer = cur
    cur = link(cur)[older]
  end
  return cur, newer
end

local function insert(m, n, k, parent)
  local old_n, new_n = place(n[2], n[3], k, before_in_ns, 1)
  local old_t, new_t = place(m.th, m.tt, k, before_in_thread, 3)
  links[k] = {old_n, new_n, old_t, new_t, parent}
  touched[k] = true
  relink(old_n, 2, k)
  relink(new_n, 1, k)
  relink(old_t, 4, k)
  relink(new_t, 3, k)
  if new_n == '' then n[2] = k end
  if old_n == '' then n[3] = k end
  if new_t == '' then m.th = k end
  if old_t == '' then m.tt = k end
  n[4] = n[4] + 1
  m.n = m.n + 1
end

local function write_fields(k, out)
  local count = tonumber(hget('y' .. k) or 0)
  for i = 1, count do out[#out + 1] = 'w' .. k .. ':' .. i end
  return count
end

-- The pending writes of k, as frames.
local function writes_of(k)
  local fields = {}
  if write_fields(k, fields) == 0 then return {} end
  return hmget(fields)
end

local function drop_writes(k)
  local fields = {}
  if write_fields(k, fields) == 0 then return end
  local frames = hmget(fields)
  for i = 1, #frames do
    local w = header(frames[i])
    fields[#fields + 1] = 'k' .. k .. ':' .. w[2] .. ':' .. w[1]
  end
  fields[#fields + 1] = 'y' .. k
  hdel(fields)
end

-- Forget one use of each blob that a frame refers to.
local function release(num, refs)
  local used = {}
  for i = 1, #refs, 2 do used[#used + 1] = 'r' .. blob_key(num, refs[i], refs[i + 1]) end
  if #used == 0 then return end
  local counts, gone, kept = hmget(used), {}, {}
  for i = 1, #used do
    local count = tonumber(counts[i] or 0)
    if count > 1 then
      kept[#kept + 1] = used[i]
      kept[#kept + 1] = count - 1
    elseif count == 1 then
      gone[#gone + 1] = used[i]
      gone[#gone + 1] = 'b' .. string.sub(used[i], 2)
    end
  end
  if #gone > 0 then hdel(gone) end
  if #kept > 0 then hset(kept) end
end

-- Remove a checkpoint with its writes and the blobs that nobody else uses. The caller saves n, m and the links.
local function remove(m, n, k)
  local num = split(k)
  local l = link(k)
  release(num, header(hget('c' .. k))[4])
  drop_writes(k)
  hdel({'c' .. k, 'l' .. k})
  relink(l[1], 2, l[2])
  relink(l[2], 1, l[1])
  relink(l[3], 4, l[4])
  relink(l[4], 3, l[3])
  if n[2] == k then n[2] = l[1] end
  if n[3] == k then n[3] = l[2] end
  if m.th == k then m.th = l[3] end
  if m.tt == k then m.tt = l[4] end
  n[4] = n[4] - 1
  m.n = m.n - 1
  touched[k] = nil
end

local function new_meta(incarnation, now, ttl, hot_ttl)
  return {
    i = incarnation, s = 'e', ch = 0, fl = '', fn = 0, ct = now, lw = now, ttl = ttl, ht = hot_ttl, n = 0, by = 0,
    pin = 0, int = 0, wh = 1, hz = '', nn = 0, th = '', tt = '', du = 0, rs = '', er = '', bk = 0, rb = 0,
  }
end

-- The namespace's entry, made if there is none; `sure` says that no checkpoint of it exists elsewhere.
local function need_ns(m, ns)
  local n = load_ns(ns)
  if n then return n end
  m.nn = m.nn + 1
  hset({'N' .. m.nn, ns})
  return {m.nn, '', '', 0, m.wh == 1 and '' or '~', m.wh}
end

-- Store a record: its frame, blobs and links. `refs` are those of the frame. Blobs: channel, version, value, ...
local function store(m, n, id, parent, frame, blobs)
  local k = n[1] .. ':' .. id
  local refs, out, provided = header(frame)[4], {'c' .. k, frame}, {}
  local size = #frame
  for i = 1, #blobs, 3 do
    local bk = blob_key(n[1], blobs[i], blobs[i + 1])
    provided[bk] = true
    out[#out + 1] = 'b' .. bk
    out[#out + 1] = blobs[i + 2]
    size = size + #blobs[i + 2]
  end
  local before, old = {}, hget('c' .. k)
  if old then
    local old_refs = header(old)[4]
    for i = 1, #old_refs, 2 do before[blob_key(n[1], old_refs[i], old_refs[i + 1])] = true end
  end
  local keys, fields = {}, {}
  for i = 1, #refs, 2 do
    local bk = blob_key(n[1], refs[i], refs[i + 1])
    keys[#keys + 1] = bk
    fields[#fields + 1] = 'r' .. bk
  end
  local counts = #fields > 0 and hmget(fields) or {}
  for i = 1, #keys do
    if (counts[i] or provided[keys[i]]) and not (before[keys[i]] and counts[i]) then
      out[#out + 1] = fields[i]
      out[#out + 1] = tonumber(counts[i] or 0) + 1
    end
  end
  hset(out)
  if not old then
    insert(m, n, k, parent)
    m.by = m.by + size
  elseif link(k)[5] ~= parent then
    relink(k, 5, parent)
  end
  return k
end

-- Which of the refs (channel, version, ...) have no stored value: their positions, from 0.
local function missing(num, refs)
  local fields, absent = {}, {}
  for i = 1, #refs, 2 do fields[#fields + 1] = 'r' .. blob_key(num, refs[i], refs[i + 1]) end
  if #fields == 0 then return absent end
  local counts = hmget(fields)
  for i = 1, #fields do
    if not counts[i] then absent[#absent + 1] = i - 1 end
  end
  return absent
end

-- A checkpoint as replies give it: namespace, id, parent, frame, values aligned with its refs, pending writes.
local function record(ns, k, with_values)
  local frame = hget('c' .. k)
  local num, id = split(k)
  local values, writes = {}, {}
  if with_values then
    local refs, fields = header(frame)[4], {}
    for i = 1, #refs, 2 do fields[#fields + 1] = 'b' .. blob_key(num, refs[i], refs[i + 1]) end
    if #fields > 0 then values = hmget(fields) end
    writes = writes_of(k)
  end
  return {ns, id, link(k)[5], frame, values, writes}
end

local function tomb(what)
  return redis.sha1hex(what[1]) .. ':' .. (what[2] or '')
end

local function touch_ttl(m)
  local ttl = 0
  if m.s == 'e' then ttl = m.ttl elseif m.s == 'c' then ttl = m.ht end
  if m.s == 'd' or ttl == 0 then call('PERSIST', T) else call('PEXPIRE', T, ttl) end
end
