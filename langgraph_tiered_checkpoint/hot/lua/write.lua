-- Shared by put.lua and put_writes.lua: who may write, and what a write does to the thread as a whole.
--
-- KEYS[1] thread  [2] due  [3] threads  [4] runs  [5] gone  [6] lapses
-- ARGV[1] thread id  [2] op (random, the same when the call is repeated)  [3] incarnation  [4] "1" if confirmed
--     [5] "1" with a cold tier  [6] ms: a thread deleted since then is not to be brought back; 0 if unknown
--     [7] origin: "" unknown, "new", or "cold"  [8] its token  [9] flushed change id  [10] "1" if pinned
--     [11] ttl ms  [12] hot ttl ms  [13] after ms, -1 off  [14] checkpoints, 0 off  [15] bytes, 0 off
--     [16] "1" promotes on interrupt  [17] "1" promotes before expiry  [18] reason to promote now, or ""
--     [19] ms until a promoter should flush  [20] namespace  [21] checkpoint id
local MARKER_MS = 10000
local ENLIST_MS = 10000 -- idle time after which a write lists its thread again, in case Redis has evicted the lists
local marked = false
local TID, OP, INC, CONFIRMED, COLD = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'

local OVERDUE = 2 -- flush intervals after which a change that Postgres has not taken may not grow any more
local ALMOST_FULL = 0.9

-- Whether Redis is filling up with what Postgres does not take. Looked at for threads that have waited too long only,
-- and not where INFO is forbidden. A Redis that evicts is full as a rule, and of what can go: it refuses by itself.
local function pressed(m, now)
  local waits = m.fl == '' and m.rs == 'before expiry'
  if m.s ~= 'd' or waits or now - m.du < OVERDUE * tonumber(ARGV[19]) then return false end
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' or not string.find(info, 'maxmemory_policy:noeviction', 1, true) then return false end
  local used = tonumber(string.match(info, 'used_memory:(%d+)') or 0)
  -- Redis itself does not count its buffers against the limit.
  used = used - tonumber(string.match(info, 'mem_not_counted_for_evict:(%d+)') or 0)
  local most = tonumber(string.match(info, 'maxmemory:(%d+)') or 0)
  return most > 0 and used > ALMOST_FULL * most
end

-- The thread's meta, or nil and what to answer.
-- Answers: {"deleted"}, {"closed", ms left}, {"origin", token}: ask Postgres, then call again with what it said;
-- {"moved", ...}: see run.lua; {"pressed"}: see there.
local function admit(now)
  local m, x = load()
  if m then
    if moved(m) then return nil, moved_reply(m) end
    if pressed(m, now) then return nil, {'pressed'} end
    if m.i == INC then return m end
    if CONFIRMED or call('ZSCORE', KEYS[5], tomb({TID, INC})) then return nil, {'deleted'} end
    local buried = tonumber(call('ZSCORE', KEYS[5], tomb({TID})) or 0)
    local named = tonumber(ARGV[6])
    if named > 0 and named < buried then return nil, {'deleted'} end
    return m
  end
  if call('ZSCORE', KEYS[5], tomb({TID, INC})) then
    -- A new run that met what a delete is still removing from Postgres waits for it.
    if ARGV[7] == 'cold' and not CONFIRMED then return nil, {'closed', 50} end
    return nil, {'deleted'}
  end
  if not CONFIRMED then
    local buried = tonumber(call('ZSCORE', KEYS[5], tomb({TID})) or 0)
    local named = tonumber(ARGV[6])
    if named > 0 and named < buried then return nil, {'deleted'} end
  end
  local held = holds(x, now)
  if held and x[1] == 'closed' then return nil, {'closed', tonumber(x[3]) - now} end
  local fresh = not COLD or (held and (x[1] == 'vacant' or (ARGV[7] == 'new' and x[2] == ARGV[8])))
  if fresh then
    if CONFIRMED then return nil, {'deleted'} end
    marked = x ~= nil
    return new_meta(INC, now, tonumber(ARGV[11]), tonumber(ARGV[12]))
  end
  if ARGV[7] == 'cold' and held and x[2] == ARGV[8] then
    marked = true
    local made = new_meta(INC, now, tonumber(ARGV[11]), tonumber(ARGV[12]))
    made.s, made.fl, made.wh, made.hz = 'c', ARGV[9], 0, NOWHERE
    made.fn = tonumber(string.match(ARGV[9], '^%d+') or 0)
    made.ch, made.pin, made.rs = made.fn, tonumber(ARGV[10]), 'in Postgres before'
    return made
  end
  -- Whoever asks Postgres after a marker was set may rely on the answer, so writers share it: they would take it from
  -- each other for ever.
  if held and x[1] == 'filling' then return nil, {'origin', x[2]} end
  hset({'x', pack({'filling', OP, now + MARKER_MS, RUN})})
  call('PEXPIRE', T, MARKER_MS)
  return nil, {'origin', OP}
end

local function reason_to_promote(m, now)
  if not COLD then return '' end
  if ARGV[18] ~= '' then return ARGV[18] end
  if tonumber(ARGV[13]) >= 0 and now - m.ct >= tonumber(ARGV[13]) then return 'age' end
  if tonumber(ARGV[14]) > 0 and m.n >= tonumber(ARGV[14]) then return 'checkpoints' end
  if tonumber(ARGV[15]) > 0 and m.by >= tonumber(ARGV[15]) then return 'bytes' end
  if m.int == 1 and ARGV[16] == '1' then return 'interrupt' end
  return ''
end

-- Count the change, and answer {"ok", incarnation, state ("w" waits for its expiry to be flushed), run id of the server};
-- and, if Postgres lacks this change and no other, last flushed change id, id of this change, last write ms, reason.
-- Decides on promotion, logs what was touched, sets the TTL; the last thing a write does.
local function finish(m, ns, n, now, what)
  local idle = now - m.lw
  m.lw = now
  m.ch = m.ch + 1
  add('n' .. ns, pack(n))
  local due = now + tonumber(ARGV[19])
  local waiting = m.s == 'd' and m.fl == '' and m.rs == 'before expiry'
  local reason = (m.s == 'e' or waiting) and reason_to_promote(m, now) or ''
  if m.s == 'e' and reason == '' and COLD and ARGV[17] == '1' and m.ttl > 0 then reason, waiting = 'before expiry', true end
  if m.s == 'e' and reason ~= '' then m.s, m.du, m.fn = 'd', now, m.ch - 1 end
  if reason ~= '' then m.rs = reason end
  waiting = waiting and m.rs == 'before expiry'
  if waiting then
    call('ZADD', KEYS[2], now + m.ttl - math.min(60000, math.floor(m.ttl / 4)), TID)
  elseif reason ~= '' then
    call('ZADD', KEYS[2], due, TID)
  elseif m.s == 'c' then
    m.s, m.du = 'd', now
    call('ZADD', KEYS[2], due, TID)
  elseif m.s == 'd' then
    call('ZADD', KEYS[2], 'NX', due, TID)
  end
  if m.s == 'd' then
    add('g' .. m.ch, pack(what))
  end
  add('m', pack(m))
  save()
  if marked then call('HDEL', T, 'x') end
  touch_ttl(m)
  if m.ch == 1 or marked or idle > ENLIST_MS then enlist(KEYS[3], KEYS[6], TID, now, m.ttl) end
  if m.s == 'd' and m.fl ~= '' and m.fn == m.ch - 1 then
    return {'ok', m.i, m.s, RUN, m.fl, m.ch .. '.' .. OP, m.lw, m.rs}
  end
  return {'ok', m.i, waiting and 'w' or m.s, RUN}
end
