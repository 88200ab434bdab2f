-- get: one checkpoint with its channel values and pending writes, or the latest of a namespace.
--
-- KEYS[1] thread
-- ARGV[1] namespace  [2] checkpoint id, "" for the latest  [3] "1" slides the TTL
--     [4] id of the root checkpoint that the caller runs under, or ""  [5] "1" with a cold tier  [6] token for a fill, "" to do without
--     [7] packed list of the values that the caller has: channel, version, tag, ...
-- Reply: {"hit", incarnation, record}: the answer.
--     {"unsure", incarnation, record, id of the oldest that is here}: Postgres may hold a later one (if the latest was
--     asked for), or more pending writes, or sends, of any that is here.
--     {"none", incarnation}: there is no such checkpoint in either tier.
--     {"none", "", ms}: there is no such thread in either tier, as of that time.
--     {"miss", incarnation, pending writes that only this tier has, last flushed change id}: Postgres may hold it.
--     {"absent", token, ms}: nothing is known; the token, if not "", entitles to a fill.
--     {"busy", "", ms}: read Postgres, fill nothing. {"moved", ...}: see run.lua.
-- include: common
-- include: run
-- include: reading
-- include: values
-- include: delivering
-- include: record
local MARKER_MS = 10000
local ns, id = ARGV[1], ARGV[2]
local m, x = load()
if not m then
  local now = now_exactly()
  local at = string.format('%.3f', now)
  if ARGV[5] ~= '1' then return {'none', '', at} end
  if holds(x, now) then
    if x[1] == 'vacant' then return {'none', '', at} end
    return {'busy', '', at}
  end
  if ARGV[6] == '' then return {'absent', '', at} end
  local full = redis.pcall('HSET', T, 'x', pack({'filling', ARGV[6], math.floor(now) + MARKER_MS, RUN}))
  if type(full) == 'table' and full.err then return {'absent', '', at} end
  call('PEXPIRE', T, MARKER_MS)
  return {'absent', ARGV[6], at}
end
if moved(m) then return moved_reply(m) end
if ARGV[3] == '1' and id == '' and m.s ~= 'd' then touch_ttl(m) end
local n = load_ns(ns)
local function found(k)
  local known, list = {}, cmsgpack.unpack(ARGV[7])
  for i = 1, #list, 3 do known[blob_key(n[1], list[i], list[i + 1])] = list[i + 2] end
  local one, _, f = record(ns, k, true, known)
  local sure = vouches(m, n, id_of(k)) and vouches_for_sends(m, n, f, one[3])
  return {sure and 'hit' or 'unsure', m.i, one, id_of(n[3])}
end
if id == '' then
  if n and n[2] ~= '' then return found(n[2]) end
  if m.wh == 1 or (n and n[6] == 1) or call_is_new(m, ns, ARGV[4]) then return {'none', m.i} end
  return {'miss', m.i, {}, m.fl}
end
if n and call('HEXISTS', T, 'c' .. n[1] .. ':' .. id) == 1 then
  return found(n[1] .. ':' .. id)
end
if m.wh == 1 or (n and not less(id, n[5])) then return {'none', m.i} end
return {'miss', m.i, n and writes_of(n[1] .. ':' .. id) or {}, m.fl}
