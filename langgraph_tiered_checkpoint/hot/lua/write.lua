-- Shared by put.lua and put_writes.lua: who may write, and what a write does to the thread as a whole, where it is not as
-- simple as their quick ways take it to be. The names of ARGV are those of put.lua.
-- include: moved
local MARKER_MS = 10000
local marked = false
local TID, OP, INC, CONFIRMED, COLD = ARGV.thread_id, ARGV.op, ARGV.incarnation, ARGV.confirmed == '1', ARGV.cold == '1'

local ALMOST_FULL = 0.9

-- Whether Redis is filling up with what Postgres does not take. Looked at for threads that have waited too long only,
-- and not where INFO is forbidden. A Redis that evicts is full as a rule, and of what can go: it refuses by itself.
local function pressed(m, now)
  if m.state ~= 'd' or waits(m) or now - m.dirty_since < OVERDUE * tonumber(ARGV.interval) then return false end
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
    if m.incarnation == INC or may_join() then return m end
    return nil, {'deleted'}
  end
  if call('ZSCORE', KEYS.gone, tomb({TID, INC})) then
    -- A new run that met what a delete is still removing from Postgres waits for it.
    if ARGV.origin == 'cold' and not CONFIRMED then return nil, {'closed', 50} end
    return nil, {'deleted'}
  end
  if not CONFIRMED and is_buried() then return nil, {'deleted'} end
  local held = holds(x, now)
  if held and x[1] == 'closed' then return nil, {'closed', tonumber(x[3]) - now} end
  local fresh = not COLD or (held and (x[1] == 'vacant' or (ARGV.origin == 'new' and x[2] == ARGV.token)))
  if fresh then
    if CONFIRMED then return nil, {'deleted'} end
    marked = x ~= nil
    return new_meta(INC, now, tonumber(ARGV.ttl), tonumber(ARGV.hot_ttl))
  end
  if ARGV.origin == 'cold' and held and x[2] == ARGV.token then
    marked = true
    local made = new_meta(INC, now, tonumber(ARGV.ttl), tonumber(ARGV.hot_ttl))
    made.state, made.flushed, made.whole, made.horizon = 'c', ARGV.flushed, 0, NOWHERE
    made.flushed_number = tonumber(string.match(ARGV.flushed, '^%d+') or 0)
    made.change, made.pinned, made.reason = made.flushed_number, tonumber(ARGV.pinned), 'in Postgres before'
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
  if ARGV.reason ~= '' then return ARGV.reason end
  if tonumber(ARGV.after) >= 0 and now - m.created >= tonumber(ARGV.after) then return 'age' end
  if tonumber(ARGV.checkpoints) > 0 and m.checkpoints >= tonumber(ARGV.checkpoints) then return 'checkpoints' end
  if tonumber(ARGV.bytes) > 0 and m.bytes >= tonumber(ARGV.bytes) then return 'bytes' end
  if m.interrupted == 1 and ARGV.on_interrupt == '1' then return 'interrupt' end
  return ''
end

-- Count the change, and answer {"ok", incarnation, state ("w" waits for its expiry to be flushed), run id of the server};
-- and, if Postgres lacks this change and no other, last flushed change id, id of this change, last write ms, reason.
-- Decides on promotion, logs what was touched, sets the TTL; the last thing a write does.
local function finish(m, ns, n, now, log)
  local idle = now - m.last_write
  m.last_write = now
  m.change = m.change + 1
  if m.own_ttl == 0 then m.ttl, m.hot_ttl = tonumber(ARGV.ttl), tonumber(ARGV.hot_ttl) end
  local due = now + tonumber(ARGV.interval)
  local waiting = waits(m)
  local reason = (m.state == 'e' or waiting) and reason_to_promote(m, now) or ''
  if m.state == 'e' and reason == '' and COLD and ARGV.before_expiry == '1' and m.ttl > 0 then
    reason, waiting = 'before expiry', true
  end
  if m.state == 'e' and reason ~= '' then m.state, m.dirty_since, m.flushed_number = 'd', now, m.change - 1 end
  if reason ~= '' then m.reason = reason end
  waiting = waiting and m.reason == 'before expiry'
  if waiting then
    call('ZADD', KEYS.due, now + m.ttl - math.min(60000, math.floor(m.ttl / 4)), TID)
  elseif reason ~= '' then
    call('ZADD', KEYS.due, due, TID)
  elseif m.state == 'c' then
    m.state, m.dirty_since = 'd', now
    call('ZADD', KEYS.due, due, TID)
  elseif m.state == 'd' then
    call('ZADD', KEYS.due, 'NX', due, TID)
  end
  if m.state == 'd' then
    add('g' .. m.change, log)
  end
  save(m, ns, n)
  if marked then call('HDEL', T, 'x') end
  touch_ttl(m)
  if m.change == 1 or marked or idle > ENLIST_MS then enlist(KEYS.threads, KEYS.lapses, TID, now, m.ttl) end
  if m.state == 'd' and m.flushed ~= '' and m.flushed_number == m.change - 1 then
    return {'ok', m.incarnation, m.state, RUN, m.flushed, m.change .. '.' .. OP, m.last_write, m.reason}
  end
  return {'ok', m.incarnation, waiting and 'w' or m.state, RUN}
end
