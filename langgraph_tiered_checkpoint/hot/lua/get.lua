-- get: one checkpoint with its channel values and pending writes, or the latest of a namespace.
--
-- KEYS: thread
-- ARGV: ns id refresh root cold token only known...
--   id       "" for the latest;  refresh  "1" slides the TTL
--   root     id of the root checkpoint that the caller runs under, or "";  cold  "1" with a cold tier
--   token    for a fill, "" to do without
--   only     packed list of what the fields of the values that are wanted begin with, "" for all values
--   known    the values that the caller has: name of the field, tag, ...; and, last, see run.lua
-- Reply: {"hit", incarnation, record}: the answer.
--     {"unsure", incarnation, record, id of the oldest that is here}: Postgres may hold a later one (if the latest was
--     asked for), or more pending writes, or sends, of any that is here.
--     {"none", incarnation}: there is no such checkpoint in either tier.
--     {"none", "", ms}: there is no such thread in either tier, as of that time.
--     {"miss", incarnation, pending writes that only this tier has, last flushed change id}: Postgres may hold it.
--     {"absent", token, ms}: nothing is known; the token, if not "", entitles to a fill.
--     {"busy", "", ms}: read Postgres, fill nothing. {"moved", ...}: see run.lua.
-- include: state
-- include: run

-- Of some values only, the others are replied as if they were not here.
local function leave_out(fields, values)
  if ARGV.only == '' then return end
  local only = cmsgpack.unpack(ARGV.only)
  for i = 1, #fields do
    local wanted = false
    for j = 1, #only do wanted = wanted or string.sub(fields[i], 1, #only[j]) == only[j] end
    if not wanted then values[i] = false end
  end
end

-- The quick way, to a checkpoint that is here with all that belongs to it. Returns the reply; and, second, the places of the
-- values in it that are recipes, if there are any: see below.
local function quickly()
  local found = redis.pcall('HMGET', KEYS.thread, 's', 'h' .. ARGV.ns)
  local s, head = found[1], found[2]
  if not s or not head or string.sub(s, STATE_END, STATE_END + #RUN) ~= RUN .. '\0' then return end
  local kind, reads = string.byte(s, KIND, READS)
  local id = ARGV.id == '' and string.sub(head, 2) or ARGV.id
  local sure = reads == 2 or (reads == 1 and id == string.sub(head, 2) and string.byte(head) == 49) -- "1"
  if not sure or id == '' then return end
  local place = ARGV.ns .. '\0' .. id
  found = redis.call('HMGET', KEYS.thread, 'c' .. place, 'l' .. place, 'y' .. place)
  local frame, link, count = found[1], found[2], tonumber(found[3] or 0)
  local high, low = string.byte(frame or '', 1, 2)
  if not low or not count or count < 0 or count > 1000 then return end
  local sound, _, header = pcall(cmsgpack.unpack_one, frame, 2 + high * 256 + low)
  if not sound or type(header) ~= 'table' or type(header[4]) ~= 'table' or header[6] or #header[4] > 3000 then return end
  local fields, values, recipes = header[4], {}, nil
  if #fields > 0 then values = redis.call('HMGET', KEYS.thread, unpack(fields)) end
  leave_out(fields, values)
  if ARGV[AT.known] then
    local known = {}
    for i = AT.known, #ARGV, 2 do known[ARGV[i]] = ARGV[i + 1] end
    for i = 1, #values do
      local tag = known[fields[i]]
      if tag and values[i] and string.sub(values[i], 2, 17) == tag then values[i] = 1 end
    end
  end
  for i = 1, #values do
    local value = values[i]
    if value and value ~= 1 and string.byte(value) ~= 87 then -- "W"
      recipes = recipes or {}
      recipes[#recipes + 1] = {i, fields[i]}
    end
  end
  local writes = {}
  if count > 0 then
    local names = {}
    for i = 1, count do names[i] = 'w' .. place .. '\0' .. i end
    writes = redis.call('HMGET', KEYS.thread, unpack(names))
  end
  if ARGV.refresh == '1' and ARGV.id == '' and kind ~= DIRTY then
    local ttl, hot_ttl = struct.unpack('>dd', s, STATE_END - 16)
    if kind ~= EPHEMERAL then ttl = hot_ttl end
    if ttl > 0 then redis.call('PEXPIRE', KEYS.thread, ttl) end
  end
  local from = STATE_END + #RUN + 1
  local last = string.find(s, '\0', from, true)
  if not last then return end
  local incarnation = string.sub(s, from, last - 1)
  return {'hit', incarnation, {ARGV.ns, id, frame, link or '', values, writes, {}}}, recipes
end
local done, recipes = quickly()
if done and not recipes then return done end

-- include: common
-- include: moved
-- include: reading
-- include: values
-- include: delivering
if done then
  local values = done[3][5]
  for _, of in ipairs(recipes) do values[of[1]] = delivered(values[of[1]], of[2]) end
  return done
end

-- include: record
local MARKER_MS = 10000
local ns, id = ARGV.ns, ARGV.id
local m, x = load()
if not m then
  local now = now_exactly()
  local at = string.format('%.3f', now)
  if ARGV.cold ~= '1' then return {'none', '', at} end
  if holds(x, now) then
    if x[1] == 'vacant' then return {'none', '', at} end
    return {'busy', '', at}
  end
  if ARGV.token == '' then return {'absent', '', at} end
  local full = redis.pcall('HSET', T, 'x', pack({'filling', ARGV.token, math.floor(now) + MARKER_MS, RUN}))
  if type(full) == 'table' and full.err then return {'absent', '', at} end
  call('PEXPIRE', T, MARKER_MS)
  return {'absent', ARGV.token, at}
end
if moved(m) then return moved_reply(m) end
if ARGV.refresh == '1' and id == '' and m.state ~= 'd' then touch_ttl(m) end
local n = load_ns(ns)
local function found(of)
  local known = {}
  for i = AT.known, #ARGV, 2 do known[ARGV[i]] = ARGV[i + 1] end
  local one, _, f, parent = record(ns, of, true, known, leave_out)
  local sure = vouches(m, n, of) and vouches_for_sends(m, n, f, parent)
  return {sure and 'hit' or 'unsure', m.incarnation, one, n.tail}
end
if id == '' then
  if n and n.head ~= '' then return found(n.head) end
  if m.whole == 1 or (n and n.sure) or call_is_new(m, ns, ARGV.root) then return {'none', m.incarnation} end
  return {'miss', m.incarnation, {}, m.flushed}
end
if n and is_here(place_of(ns, id)) then return found(id) end
if m.whole == 1 or (n and not less(id, n.floor)) then return {'none', m.incarnation} end
return {'miss', m.incarnation, n and writes_of(place_of(ns, id)) or {}, m.flushed}
