-- Shared by the scripts that add to a thread. What is to be stored gathers in `out`, for one HSET at the end. They include
-- run.lua first.
local out = {}

local function add(field, value)
  out[#out + 1] = field
  out[#out + 1] = value
end

local function new_meta(incarnation, now, ttl, hot_ttl)
  return {
    state = 'e', interrupted = 0, own_ttl = 0, change = 0, last_write = now, checkpoints = 0, roots = 0, bytes = 0,
    dirty_since = 0, created = now, ttl = ttl, hot_ttl = hot_ttl, run = RUN, incarnation = incarnation, newest = '',
    flushed = '', flushed_number = 0, pinned = 0, whole = 1, horizon = '', oldest = '', early = 0, forks = 0, reason = '',
    error = '', failures = 0, rebase = 0,
  }
end

-- The namespace's entry, made if there is none. `root` is the root checkpoint that it runs under, if known.
local function need_ns(m, ns, root)
  local n = load_ns(ns)
  if n then return n end
  local all_here = m.whole == 1 or (root and call_is_new(m, ns, root)) or false
  return {sure = all_here, head = '', tail = '', floor = all_here and '' or NOWHERE, early = 0}
end

local function relink(place, name, to)
  if place ~= '' then
    link(place)[name] = to
    touched[place] = true
  end
end

-- Link a checkpoint in, among those of its namespace and of the thread. `parent` is as in its record.
local function insert(m, ns, n, id, parent)
  local place = place_of(ns, id)
  local newer, older = '', n.head
  if n.tail ~= '' and less(id, n.tail) then
    newer, older = n.tail, ''
  else
    while older ~= '' and less(id, older) do
      newer, older = older, link(place_of(ns, older)).older
      if older ~= '' and not less(older, newer) then unreadable('l' .. place_of(ns, newer)) end
    end
  end
  local above, below = '', m.newest
  if m.oldest ~= '' and comes_before(place, m.oldest) then
    above, below = m.oldest, ''
  else
    while below ~= '' and comes_before(place, below) do
      above, below = below, link(below).thread
      if below ~= '' and not comes_before(below, above) then unreadable('l' .. above) end
    end
  end
  links[place] = {older = older, thread = below, parent = parent}
  touched[place] = older ~= parent or below ~= (parent ~= '' and place_of(ns, parent) or '') or nil
  if newer ~= '' then relink(place_of(ns, newer), 'older', id) else n.head = id end
  if older == '' then n.tail = id end
  relink(above, 'thread', place)
  if above == '' then m.newest = place end
  if below == '' then m.oldest = place end
  m.checkpoints = m.checkpoints + 1
  if ns == '' then m.roots = m.roots + 1 end
end

-- Store a checkpoint's record, and its links. `size` is in bytes, with its values. Returns the names of values that it had
-- before and has no more; nothing if it is new.
local function store(m, ns, n, id, frame, size)
  local place = place_of(ns, id)
  local field, parent = 'c' .. place, parent_in(frame)
  local old = hget(field)
  add(field, frame)
  if not old then
    if n.early > 0 and call('HEXISTS', T, 'y' .. place) == 1 then n.early, m.early = n.early - 1, m.early - 1 end
    insert(m, ns, n, id, parent)
    m.bytes = m.bytes + size
    return
  end
  if parent_in(old, field) ~= parent or link(place).parent ~= parent then relink(place, 'parent', parent) end
  local kept, gone = {}, {}
  for _, name in ipairs(header(frame)[4]) do kept[name] = true end
  for _, name in ipairs(header(old, field)[4]) do
    if not kept[name] then gone[#gone + 1] = name end
  end
  return gone
end

local function save(m, ns, n)
  add_ns(out, ns, n)
  add_meta(out, m)
  add_links(out)
  hset(out)
end
