-- fill: make a checkpoint that was read from Postgres resident, as the latest of its namespace.
--
-- KEYS: thread threads gone lapses
-- ARGV: thread_id token incarnation flushed pinned ttl hot_ttl ns id size writes since pairs...
--   token   "" if the thread was already there;  flushed  change id;  pinned  "1" if pinned;  ttl, hot_ttl  ms
--   id      "" if there is none: then the thread is absent ("vacant") or the namespace's head here is confirmed as the latest
--   size    of the record and the values, in bytes
--   writes  packed list of its pending writes, and of others: checkpoint id, idx, task id, frame, ...: all those of the id
--           `since` and above
--   pairs   field of the record, record, then of each value: field, value (see values.lua), ...; and, last, see run.lua
-- Reply: {"ok"}, or {"skip"} if the thread has moved on: nothing was changed.
-- include: run
-- include: common
-- include: moved
-- include: values
-- include: storing
-- include: lists
local VACANT_MS = 60000
local TID, INC, ns, id = ARGV.thread_id, ARGV.incarnation, ARGV.ns, ARGV.id
local m, x = load()
local now = now_ms()
local made = false
if not m then
  if ARGV.token == '' or not holds(x, now) or x[2] ~= ARGV.token then return {'skip'} end
  if INC == '' then
    hset({'x', pack({'vacant', ARGV.token, now + VACANT_MS, RUN})})
    call('PEXPIRE', T, VACANT_MS)
    return {'ok'}
  end
  if call('ZSCORE', KEYS.gone, tomb({TID, INC})) then return {'skip'} end
  m, made = new_meta(INC, now, tonumber(ARGV.ttl), tonumber(ARGV.hot_ttl)), true
  m.state, m.flushed, m.whole, m.horizon, m.pinned = 'c', ARGV.flushed, 0, NOWHERE, tonumber(ARGV.pinned)
  m.reason, m.flushed_number = 'in Postgres before', tonumber(string.match(ARGV.flushed, '^%d+') or 0)
  m.change = m.flushed_number
elseif m.incarnation ~= INC or m.whole == 1 or m.flushed ~= ARGV.flushed or moved(m) then
  return {'skip'}
end
local known = load_ns(ns)
if known and known.sure then return {'ok'} end
if known and known.tail ~= '' and less(known.tail, ARGV.since) then return {'skip'} end
local n = known or need_ns(m, ns)
if id ~= '' and not is_here(place_of(ns, id)) then
  store(m, ns, n, id, ARGV[AT.pairs + 1], tonumber(ARGV.size))
  for i = AT.pairs + 2, #ARGV, 2 do
    if call('HEXISTS', T, ARGV[i]) == 0 then add(ARGV[i], ARGV[i + 1]) end
  end
end
local writes, counts, names = cmsgpack.unpack(ARGV.writes), {}, {}
for i = 1, #writes, 4 do names[#names + 1] = ordinal_field(place_of(ns, writes[i]), writes[i + 1], writes[i + 2]) end
local found = #names > 0 and hmget(names) or {}
for i = 1, #writes, 4 do
  local place, special = place_of(ns, writes[i]), type(writes[i + 1]) == 'number' and writes[i + 1] < 0
  if not counts[place] then
    counts[place] = tonumber(hget('y' .. place) or 0)
    if counts[place] == 0 and writes[i] ~= id and not is_here(place) then n.early, m.early = n.early + 1, m.early + 1 end
  end
  local at = found[(i + 3) / 4]
  if not at then
    counts[place] = counts[place] + 1
    at = counts[place]
  elseif special then
    at = nil
  end
  if at then
    add(names[(i + 3) / 4], at)
    add(write_field(place, at), writes[i + 3])
  end
end
for place, count in pairs(counts) do add('y' .. place, count) end
n.floor = id
n.sure = true
if ns == '' and id ~= '' and m.horizon == NOWHERE then m.horizon = id end
save(m, ns, n)
if made then
  call('HDEL', T, 'x')
  touch_ttl(m)
  enlist(KEYS.threads, KEYS.lapses, TID, now, m.hot_ttl)
end
return {'ok'}
