-- Shared by the scripts that add to a thread. What is to be stored gathers in `out`, for one HSET at the end, and what
-- that makes superfluous in `dropped`, for one HDEL after it. They include run.lua and values.lua first.
local out, dropped = {}, {}

local function add(field, value)
  out[#out + 1] = field
  out[#out + 1] = value
end

-- Store a value that came whole.
local function put_whole(bk, at)
  add('b' .. bk, ARGV[at + 2])
  move(bk, false)
end

local function new_meta(incarnation, now, ttl, hot_ttl)
  return {
    i = incarnation, s = 'e', ch = 0, fl = '', fn = 0, ct = now, lw = now, ttl = ttl, ht = hot_ttl, n = 0, by = 0,
    pin = 0, int = 0, wh = 1, hz = '', nn = 0, th = '', tt = '', du = 0, rs = '', er = '', bk = 0, rb = 0,
    rn = RUN, na = 0,
  }
end

-- The namespace's entry, made if there is none. `root` is the root checkpoint that it runs under, if known.
local function need_ns(m, ns, root)
  local n = load_ns(ns)
  if n then return n end
  m.nn = m.nn + 1
  add('N' .. m.nn, ns)
  local all_here = m.wh == 1 or (root and call_is_new(m, ns, root))
  return {m.nn, '', '', 0, all_here and '' or NOWHERE, all_here and 1 or 0, 0}
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

-- Store a checkpoint: its frame, the values at ARGV[from...] (channel, version, value, ...), and its links. `keys` are
-- the `keys_of` its refs; `put_value` stores a value. Returns k, the keys of the values, and whether it was new.
local function store(m, n, id, parent, frame, from, keys, put_value)
  local k = n[1] .. ':' .. id
  local provided, blobs, size = {}, {}, #frame
  local old = hget('c' .. k)
  add('c' .. k, frame)
  for i = from, #ARGV, 3 do
    local bk = blob_key(n[1], ARGV[i], ARGV[i + 1])
    provided[bk] = true
    blobs[#blobs + 1] = bk
    put_value(bk, i)
    size = size + #ARGV[i + 2]
  end
  local before = {}
  if old then
    local used = {}
    for i = 1, #keys do used[keys[i]] = true end
    for _, bk in ipairs(keys_of(n[1], header(old, 'c' .. k)[4])) do
      if tally(bk)[1] > 0 then
        before[bk] = true
        if not used[bk] then use(bk, -1) end
      end
    end
  end
  for _, bk in ipairs(keys) do
    if (tally(bk)[1] > 0 or provided[bk]) and not before[bk] then use(bk, 1) end
  end
  if not old then
    if n[7] > 0 and call('HEXISTS', T, 'y' .. k) == 1 then n[7] = n[7] - 1 end
    insert(m, n, k, parent)
    m.by = m.by + size
  elseif link(k)[5] ~= parent then
    relink(k, 5, parent)
  end
  return k, blobs, not old
end

local function save()
  add_links(out)
  add_values(out, dropped)
  hset(out)
  if #dropped > 0 then hdel(dropped) end
end
