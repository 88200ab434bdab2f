-- ack: Postgres has committed every change up to one; forget them, and trim.
--
-- KEYS[1] thread  [2] due  [3] parked
-- ARGV[1] thread id  [2] incarnation  [3] change id that was committed  [4] ms until the next flush
--     [5] root checkpoints to keep, 0 for all
-- Reply: {"clean"}, {"dirty"}: written meanwhile; {"diverged"}: this tier never had that change; {"stale"}: it has a later
--     one acknowledged; {"gone"}
--     and, second, "1" if there is more to trim.
-- include: common
-- include: reading
-- include: values
-- include: removing
-- include: trimming
local m, x = load()
if not m or m.i ~= ARGV[2] then
  end_fill(x)
  return {'gone', '0'}
end
local number, op = string.match(ARGV[3], '^(%d+)%.(.*)$')
number = tonumber(number)
if number > m.fn then
  local what = hget('g' .. number)
  if not what or open(what, 'g' .. number)[1] ~= op then return {'diverged', '0'} end
elseif number < m.fn then
  return {'stale', '0'}
elseif ARGV[3] ~= m.fl then
  return {'diverged', '0'}
end
call('ZREM', KEYS[2], ARGV[1])
call('ZREM', KEYS[3], ARGV[1])
call('HDEL', T, 'e')
local acked, late = {}, {}
for change = m.fn + 1, number do
  acked[#acked + 1] = 'g' .. change
  local what = m.wh == 0 and hget('g' .. change)
  what = what and open(what, 'g' .. change)
  if what and what[2] == 'w' and what[3] ~= '' then late[what[3]] = true end
end
if #acked > 0 then hdel(acked) end
m.fl, m.fn, m.er, m.bk = ARGV[3], number, '', 0
if m.ch == number then
  m.s, m.du = 'c', 0
else
  local now = now_ms()
  m.du = now
  call('ZADD', KEYS[2], now + tonumber(ARGV[4]), ARGV[1])
  if m.ch - number > MOST_UNFLUSHED then
    late = {} -- too many to look through: those that are in Postgres by now stay here, too, until the hot copy goes
  end
  for change = number + 1, next(late) and m.ch or number do
    local what = hget('g' .. change)
    what = what and open(what, 'g' .. change)
    if what then late[what[3]] = nil end
  end
end
-- Writes to a checkpoint that is not here were kept only until Postgres had them; sends of a child that may be here, longer.
local names = {}
for k in pairs(late) do
  local num, id = split(k)
  names[num] = names[num] or hget('N' .. num) or ''
  local n = load_ns(names[num])
  if call('HEXISTS', T, 'c' .. k) == 0 and n and n[1] == num and less(id, n[5]) and #sends_of(k) == 0 then
    if call('HEXISTS', T, 'y' .. k) == 1 then
      n[7] = n[7] - 1
      hset({'n' .. names[num], pack(n)})
    end
    drop_writes(k)
  end
end
local more = trim(m, tonumber(ARGV[5]))
local out = {'m', pack(m)}
save_removals(out)
touch_ttl(m)
return {m.s == 'c' and 'clean' or 'dirty', more and '1' or '0'}
