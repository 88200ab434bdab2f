-- ack: Postgres has committed every change up to one; forget them.
--
-- KEYS: thread due parked
-- ARGV: thread_id incarnation through interval keep
--   through   change id that was committed;  interval  ms until the next flush
--   keep      root checkpoints to keep, 0 for all
-- Reply: {"clean"}, {"dirty"}: written meanwhile; {"diverged"}: this tier never had that change; {"stale"}: it has a later
--     one acknowledged; {"gone"}
--     and, second, "1" if there is so much that the thread is to be trimmed.
-- include: common
-- include: reading
-- include: removing
local MOST_UNFLUSHED = 1000
local m, x = load()
if not m or m.incarnation ~= ARGV.incarnation then
  end_fill(x)
  return {'gone', '0'}
end
local number, op = string.match(ARGV.through, '^(%d+)%.(.*)$')
number = tonumber(number)
if number > m.flushed_number then
  local what = hget('g' .. number)
  if not what or open(what, 'g' .. number)[1] ~= op then return {'diverged', '0'} end
elseif number < m.flushed_number then
  return {'stale', '0'}
elseif ARGV.through ~= m.flushed then
  return {'diverged', '0'}
end
local acked, late, spaces = {}, {}, {}
for change = m.flushed_number + 1, number do
  acked[#acked + 1] = 'g' .. change
  local what = m.whole == 0 and hget('g' .. change)
  what = what and open(what, 'g' .. change)
  if what and what[2] == 'w' and what[3] ~= '' then late[what[3]] = true end
end
m.flushed, m.flushed_number, m.error, m.failures = ARGV.through, number, '', 0
if m.change == number then
  m.state, m.dirty_since = 'c', 0
else
  m.dirty_since = now_ms()
  if m.change - number > MOST_UNFLUSHED then
    late = {} -- too many to look through: those that are in Postgres by now stay here, too, until the hot copy goes
  end
  for change = number + 1, next(late) and m.change or number do
    local what = hget('g' .. change)
    what = what and open(what, 'g' .. change)
    if what then late[what[3]] = nil end
  end
end
-- Writes to a checkpoint that is not here were kept only until Postgres had them; sends of a child that may be here, longer.
local changed, dropped = {}, {}
for place in pairs(late) do
  local ns, id = split(place)
  local n = spaces[ns] or load_ns(ns)
  if n and not is_here(place) and less(id, n.floor) and #sends_of(place) == 0 then
    spaces[ns] = n
    if call('HEXISTS', T, 'y' .. place) == 1 then n.early, m.early = n.early - 1, m.early - 1 end
    add_writes(place, dropped)
  end
end
for ns, n in pairs(spaces) do add_ns(changed, ns, n) end

-- All that can be wrong with the thread has been looked at.
call('ZREM', KEYS.due, ARGV.thread_id)
call('ZREM', KEYS.parked, ARGV.thread_id)
call('HDEL', T, 'e')
if m.state == 'd' then call('ZADD', KEYS.due, m.dirty_since + tonumber(ARGV.interval), ARGV.thread_id) end
if #acked > 0 then hdel(acked) end
if #dropped > 0 then hdel(dropped) end
if #changed > 0 then hset(changed) end
local out = {}
add_meta(out, m)
hset(out)
touch_ttl(m)
local keep = tonumber(ARGV.keep)
local is_long = keep > 0 and m.roots > keep + math.floor(keep / 8) and m.change - number <= MOST_UNFLUSHED
return {m.state == 'c' and 'clean' or 'dirty', is_long and '1' or '0'}
