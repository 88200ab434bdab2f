-- sweep: look at some threads of one bucket. Of those that have lapsed remove what there is elsewhere; make due again the
-- dirty ones that have fallen out of the schedule; say of all that stay when to look again.
--
-- KEYS[1] lapses  [2] threads  [3] due  [4] parked  [5] runs  [6...] hashes of the threads
-- ARGV[1] members of the index of runs to remove at most, about: what is left keeps its thread in the lapses
--     [2...] ids of the threads
-- Reply: {"ok"}
-- include: runs
-- include: lists
local call = redis.call
local t = call('TIME')
local now, budget = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[1])
call('ZREM', KEYS[1], '') -- allowed when Redis is full, and lets the rest of the script run

local function is_dirty(key)
  local m = redis.pcall('HGET', key, 'm')
  local sound, meta = pcall(cmsgpack.unpack, m)
  return sound and type(meta) == 'table' and meta.s == 'd'
end

for i = 2, #ARGV do
  local thread, key = ARGV[i], KEYS[4 + i]
  if redis.pcall('HEXISTS', key, 'm') ~= 0 then -- an error, of a key that is no hash, is no reason to remove anything
    local ttl = call('PTTL', key)
    if ttl < 0 and is_dirty(key) then call('ZADD', KEYS[3], 'NX', now, thread) end
    call('ZADD', KEYS[1], next_look(now, ttl), thread)
  elseif budget > 0 then
    call('ZREM', KEYS[3], thread)
    call('ZREM', KEYS[4], thread)
    local left
    budget, left = forget_runs(KEYS[5], thread, budget)
    if not left then strike(KEYS[2], KEYS[1], thread) end
  end
end
return {'ok'}
