-- sweep: look at some threads of one bucket. Of those that have lapsed remove what there is elsewhere; make due again the
-- dirty ones that have fallen out of the schedule; say of all that stay when to look again.
--
-- KEYS: lapses threads due parked runs hashes...
--   hashes  of the threads
-- ARGV: most ids...
--   most    members of the index of runs to remove at most, about: what is left keeps its thread in the lapses
--   ids     of the threads
-- Reply: {"ok"}
-- include: clock
-- include: state
-- include: runs
-- include: lists
local call, now, budget = redis.call, now_ms(), tonumber(ARGV.most)
call('ZREM', KEYS.lapses, '') -- allowed when Redis is full, and lets the rest of the script run

local function is_dirty(key)
  local s = redis.pcall('HGET', key, 's')
  return type(s) == 'string' and string.byte(s) == DIRTY
end

for i = AT.ids, #ARGV do
  local thread, key = ARGV[i], KEYS[AT.hashes + i - AT.ids]
  if redis.pcall('HEXISTS', key, 'm') ~= 0 then -- an error, of a key that is no hash, is no reason to remove anything
    local ttl = call('PTTL', key)
    if ttl < 0 and is_dirty(key) then call('ZADD', KEYS.due, 'NX', now, thread) end
    call('ZADD', KEYS.lapses, next_look(now, ttl), thread)
  elseif budget > 0 then
    call('ZREM', KEYS.due, thread)
    call('ZREM', KEYS.parked, thread)
    local left
    budget, left = forget_runs(KEYS.runs, thread, budget)
    if not left then strike(KEYS.threads, KEYS.lapses, thread) end
  end
end
return {'ok'}
