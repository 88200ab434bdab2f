-- fill: make a checkpoint that was read from Postgres resident, as the latest of its namespace.
--
-- KEYS[1] thread  [2] threads  [3] gone  [4] lapses
-- ARGV[1] thread id  [2] token, "" if the thread was already there  [3] incarnation  [4] flushed change id
--     [5] "1" if pinned  [6] ttl ms  [7] hot ttl ms  [8] namespace  [9] checkpoint id, "" if there is none: then the
--     thread is absent ("vacant") or the namespace's head here is confirmed as the latest  [10] parent id  [11] frame
--     [12] packed list of its pending writes, and of others: checkpoint id, idx, task id,
--     frame, ...  [13] the writes are all of this id
--     and above  [14...] channel, version, value (see values.lua), ...
-- Reply: {"ok"}, or {"skip"} if the thread has moved on: nothing was changed.
-- include: common
-- include: run
-- include: values
-- include: storing
-- include: lists
local VACANT_MS = 60000
local TID, INC, ns, id = ARGV[1], ARGV[3], ARGV[8], ARGV[9]
local m, x = load()
local now = now_ms()
local made = false
if not m then
  if ARGV[2] == '' or not holds(x, now) or x[2] ~= ARGV[2] then return {'skip'} end
  if INC == '' then
    hset({'x', pack({'vacant', ARGV[2], now + VACANT_MS, RUN})})
    call('PEXPIRE', T, VACANT_MS)
    return {'ok'}
  end
  if call('ZSCORE', KEYS[3], tomb({TID, INC})) then return {'skip'} end
  m, made = new_meta(INC, now, tonumber(ARGV[6]), tonumber(ARGV[7])), true
  m.s, m.fl, m.wh, m.hz, m.pin, m.rs = 'c', ARGV[4], 0, NOWHERE, tonumber(ARGV[5]), 'in Postgres before'
  m.fn = tonumber(string.match(ARGV[4], '^%d+') or 0)
  m.ch = m.fn
elseif m.i ~= INC or m.wh == 1 or m.fl ~= ARGV[4] or moved(m) then
  return {'skip'}
end
local known = load_ns(ns)
if known and known[6] == 1 then return {'ok'} end
if known and known[3] ~= '' and less(id_of(known[3]), ARGV[13]) then return {'skip'} end
local n = known or need_ns(m, ns)
if id ~= '' then
  local k = n[1] .. ':' .. id
  if call('HEXISTS', T, 'c' .. k) == 0 then
    store(m, n, id, ARGV[10], ARGV[11], 14, keys_of(n[1], header(ARGV[11])[4]), function(bk, at)
      if tally(bk)[1] == 0 then put_whole(bk, at) end
    end)
  end
end
local writes, counts, places = cmsgpack.unpack(ARGV[12]), {}, {}
for i = 1, #writes, 4 do places[#places + 1] = place_field(n[1] .. ':' .. writes[i], writes[i + 1], writes[i + 2]) end
local found = #places > 0 and hmget(places) or {}
for i = 1, #writes, 4 do
  local k, special = n[1] .. ':' .. writes[i], type(writes[i + 1]) == 'number' and writes[i + 1] < 0
  if not counts[k] then
    counts[k] = tonumber(hget('y' .. k) or 0)
    if counts[k] == 0 and writes[i] ~= id and call('HEXISTS', T, 'c' .. k) == 0 then n[7] = n[7] + 1 end
  end
  local field, at = places[(i + 3) / 4], found[(i + 3) / 4]
  if not at then
    counts[k] = counts[k] + 1
    at = counts[k]
  elseif special then
    at = nil
  end
  if at then
    add(field, at)
    add(write_field(k, at), writes[i + 3])
  end
end
for k, count in pairs(counts) do add('y' .. k, count) end
n[5] = id
n[6] = 1
if ns == '' and id ~= '' and m.hz == NOWHERE then m.hz = id end
add('n' .. ns, pack(n))
add('m', pack(m))
save()
if made then
  call('HDEL', T, 'x')
  touch_ttl(m)
  enlist(KEYS[2], KEYS[4], TID, now, m.ht)
end
return {'ok'}
