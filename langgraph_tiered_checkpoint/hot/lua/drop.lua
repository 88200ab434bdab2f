-- drop: remove checkpoints of an ephemeral thread, with their writes and the values that only they used.
-- A checkpoint whose parent goes is left without one. A thread without checkpoints goes whole, unless writes wait in it
-- for one that has not come yet.
--
-- KEYS[1] thread  [2] due  [3] threads  [4] runs  [5] lapses
-- ARGV[1] thread id  [2] incarnation  [3] packed list of what is to stay: namespace, checkpoint id, ...
--     [4...] what is to go: namespace, checkpoint id, ...
-- Reply: {"ok"}; {"more", how many of them are done}: call again with the others; {"changed"}: nothing was dropped, for it is not ephemeral any more, or what is to stay is not there: Redis
--     may have gone back in time; {"gone"}
-- include: common
-- include: reading
-- include: values
-- include: removing
-- include: runs
-- include: lists
local m = load()
if not m or m.i ~= ARGV[2] then return {'gone'} end
if m.s ~= 'e' then return {'changed'} end
local staying = cmsgpack.unpack(ARGV[3])
for i = 1, #staying, 2 do
  local n = load_ns(staying[i])
  if not n or call('HEXISTS', T, 'c' .. n[1] .. ':' .. staying[i + 1]) == 0 then return {'changed'} end
end
local MOST_RUNS = 2000
local spaces, dropped, done = {}, {}, 0
for i = 4, #ARGV, 2 do
  if looked_at >= MOST_LOOKED_AT then break end
  done = done + 1
  local ns = ARGV[i]
  spaces[ns] = spaces[ns] or load_ns(ns)
  local n = spaces[ns]
  local k = n and n[1] .. ':' .. ARGV[i + 1]
  if k and call('HEXISTS', T, 'c' .. k) == 1 then
    if #dropped == 0 then call('HDEL', T, 'x') end
    remove(m, n, k)
    dropped[#dropped + 1] = k
    links[k] = nil
  end
end
local function has_early()
  local names, fields = {}, {}
  for num = 1, m.nn do names[num] = 'N' .. num end
  for _, ns in ipairs(hmget(names)) do
    if ns then fields[#fields + 1] = 'n' .. ns end
  end
  for i, n in ipairs(hmget(fields)) do
    if open(n, fields[i])[7] > 0 then return true end
  end
  return false
end
local more = 2 * done < #ARGV - 3
if m.n == 0 then
  local _, left = forget_runs(KEYS[4], ARGV[1], MOST_RUNS)
  more = more or left
  if not left and not has_early() then
    call('ZREM', KEYS[2], ARGV[1])
    strike(KEYS[3], KEYS[5], ARGV[1])
    call('UNLINK', T)
    return {'ok'}
  end
end
note_left(m)
local out = {'m', pack(m)}
for ns, n in pairs(spaces) do
  out[#out + 1] = 'n' .. ns
  out[#out + 1] = pack(n)
end
save_removals(out)
return more and {'more', done} or {'ok'}
