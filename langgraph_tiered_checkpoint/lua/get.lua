-- get: one checkpoint with its channel values and pending writes, or the latest of a namespace.
--
-- KEYS[1] thread
-- ARGV[1] namespace  [2] checkpoint id, "" for the latest  [3] "1" slides the TTL
--     [4] id of the root checkpoint that the caller runs under, or ""  [5] "1" with a cold tier  [6] token for a fill, "" to do without
-- Reply: {"hit", incarnation, record}: the answer.
--     {"unsure", incarnation, record}: the latest here, but Postgres may hold a later one.
--     {"none", incarnation}: there is no such checkpoint in either tier; the incarnation is "" without a thread.
--     {"miss", incarnation, pending writes that only this tier has, last flushed change id}: Postgres may hold it.
--     {"absent", token}: nothing is known; the token, if not "", entitles to a fill.
--     {"busy"}: read Postgres, fill nothing.
-- include: common
-- include: reading
local MARKER_MS = 10000
local ns, id = ARGV[1], ARGV[2]
local m, x = load()
if not m then
  if ARGV[5] ~= '1' then return {'none', ''} end
  local now = now_ms()
  if x and tonumber(x[3]) > now then
    if x[1] == 'vacant' then return {'none', ''} end
    return {'busy'}
  end
  if ARGV[6] == '' then return {'absent', ''} end
  local full = redis.pcall('HSET', T, 'x', pack({'filling', ARGV[6], now + MARKER_MS}))
  if type(full) == 'table' and full.err then return {'absent', ''} end
  call('PEXPIRE', T, MARKER_MS)
  return {'absent', ARGV[6]}
end
if ARGV[3] == '1' and id == '' and m.s ~= 'd' then touch_ttl(m) end
local n = load_ns(ns)
if id == '' then
  if n and n[2] ~= '' then
    local sure = m.wh == 1 or n[6] == 1
    return {sure and 'hit' or 'unsure', m.i, record(ns, n[2], true)}
  end
  local call_is_new = string.find(ns, ':', 1, true) and ARGV[4] ~= '' and less(m.hz, ARGV[4])
  if m.wh == 1 or (n and n[6] == 1) or call_is_new then return {'none', m.i} end
  return {'miss', m.i, {}, m.fl}
end
if n and call('HEXISTS', T, 'c' .. n[1] .. ':' .. id) == 1 then
  return {'hit', m.i, record(ns, n[1] .. ':' .. id, true)}
end
if m.wh == 1 or (n and not less(id, n[5])) then return {'none', m.i} end
return {'miss', m.i, n and writes_of(n[1] .. ':' .. id) or {}, m.fl}
