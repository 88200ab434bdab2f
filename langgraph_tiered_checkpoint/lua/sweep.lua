-- sweep: remove from one bucket's bookkeeping what belongs to threads that are no longer there, and make due again
-- the dirty threads that have fallen out of it.
--
-- KEYS[1] threads  [2] due  [3] parked  [4] runs  [5] gone
-- ARGV[1] key of a thread, less its id  [2] rank to start at  [3] entries of each list at most
-- Reply: the next rank, 0 when the sweep of this bucket is complete
local call = redis.call
local t = call('TIME')
local from, most = tonumber(ARGV[2]), tonumber(ARGV[3])
call('ZREMRANGEBYSCORE', KEYS[5], '-inf', t[1] * 1000 - 600000)
local function present(thread)
  return redis.pcall('HEXISTS', ARGV[1] .. thread, 'm') ~= 0 -- there is something if it is no hash
end
call('ZREM', KEYS[2], '') -- allowed when Redis is full, and lets the rest of the script run
for _, thread in ipairs(call('ZRANGE', KEYS[1], from, from + most - 1)) do
  local sound, meta = pcall(cmsgpack.unpack, redis.pcall('HGET', ARGV[1] .. thread, 'm'))
  if sound and type(meta) == 'table' and meta.s == 'd' then call('ZADD', KEYS[2], 'NX', t[1] * 1000, thread) end
end
local kept, seen = 0, 0
for i = 1, 3 do
  local members = call('ZRANGE', KEYS[i], from, from + most - 1)
  local stay = 0
  for _, thread in ipairs(members) do
    if present(thread) then stay = stay + 1 else call('ZREM', KEYS[i], thread) end
  end
  kept, seen = math.max(kept, stay), math.max(seen, #members)
end
local members = call('ZRANGE', KEYS[4], from, from + most - 1)
local stay = 0
for _, member in ipairs(members) do
  local of_thread, of_run = string.match(member, '^%z([^%z]*)%z'), string.match(member, '^[^%z]+%z(.*)$')
  local thread = of_thread or of_run
  if present(thread) then stay = stay + 1 else call('ZREM', KEYS[4], member) end
end
kept, seen = math.max(kept, stay), math.max(seen, #members)
if seen < most then return 0 end
return from + kept
