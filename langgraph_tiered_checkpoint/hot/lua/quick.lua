-- Shared by put.lua and put_writes.lua: the quick way of a write to a thread that needs no decision. They include state.lua,
-- run.lua and lists.lua first. The names of ARGV are those of put.lua.
-- include: tombs
local OVERDUE = 2 -- flush intervals after which a change that Postgres has not taken may not grow any more
local ENLIST_MS = 10000 -- idle time after which a write lists its thread again, in case Redis has evicted the lists

-- Whether the thread was deleted after the run began, or what it names was made.
local function is_buried()
  local buried, named = redis.call('ZSCORE', KEYS.gone, tomb({ARGV.thread_id})), tonumber(ARGV.since)
  return buried and named > 0 and named < tonumber(buried)
end

-- Whether a writer that knows of no incarnation, or of one that never was, may join the one that is here.
local function may_join()
  if ARGV.confirmed == '1' then return false end
  if redis.call('ZSCORE', KEYS.gone, tomb({ARGV.thread_id, ARGV.incarnation})) then return false end
  return not is_buried()
end

-- What each write changes, as a list, with the incarnation and the newest place; nothing if the thread is not for the caller,
-- was not compared with Postgres since the server was started, or has something to decide.
local function quick_state(s)
  if not s or string.sub(s, STATE_END, STATE_END + #RUN) ~= RUN .. '\0' then return end
  local q, first = {struct.unpack(STATE, s)}, STATE_END + #RUN + 1
  local last = (string.find(s, '\0', first, true) or 0) - 1
  if last < 0 then return end
  local incarnation = string.sub(s, first, last)
  if q[WRITES] == 1 and (incarnation == ARGV.incarnation or may_join()) then
    return q, incarnation, string.sub(s, last + 2)
  end
end

-- Whether the thread, with the write counted, stays as it is: ephemeral, or dirty, and not for too long.
local function stays(q, now)
  if q[KIND] == DIRTY then return now - q[DIRTY_SINCE] < OVERDUE * ARGV.interval end
  if q[KIND] ~= EPHEMERAL or ARGV.reason ~= '' then return false end
  if ARGV.cold ~= '1' then return true end
  local after, checkpoints, bytes = tonumber(ARGV.after), tonumber(ARGV.checkpoints), tonumber(ARGV.bytes)
  return ARGV.before_expiry ~= '1' and (after < 0 or now - q[CREATED] < after)
    and (checkpoints == 0 or q[CHECKPOINTS] < checkpoints) and (bytes == 0 or q[BYTES] < bytes)
    and (q[INTERRUPTED] == 0 or ARGV.on_interrupt ~= '1')
end

-- Store `out` with the thread's state, and answer as `finish` in write.lua does. `log` is the entry of the log.
local function end_quickly(out, q, now, incarnation, newest, log)
  local idle, n, kind = now - q[LAST_WRITE], #out, q[KIND]
  q[LAST_WRITE], q[CHANGE] = now, q[CHANGE] + 1
  if q[OWN_TTL] == 0 then q[TTL], q[HOT_TTL] = ARGV.ttl, ARGV.hot_ttl end
  out[n + 1], out[n + 2] = 's', struct.pack(STATE, unpack(q, 1, HOT_TTL)) .. RUN .. '\0' .. incarnation .. '\0' .. newest
  if kind == DIRTY then out[n + 3], out[n + 4] = 'g' .. q[CHANGE], log end
  redis.call('HSET', KEYS.thread, unpack(out))
  local ttl = tonumber(q[TTL])
  if kind == EPHEMERAL and ttl > 0 then redis.call('PEXPIRE', KEYS.thread, ttl) else redis.call('PERSIST', KEYS.thread) end
  if idle > ENLIST_MS then enlist(KEYS.threads, KEYS.lapses, ARGV.thread_id, now, ttl) end
  return {'ok', incarnation, kind == DIRTY and 'd' or 'e', RUN}
end
