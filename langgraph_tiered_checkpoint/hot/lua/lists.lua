-- Shared by the scripts that make and remove threads: the bucket's list of its threads, by id, and their lapses: when to
-- look whether a thread is still there. That is when it may have lapsed at the earliest, and every hour at least, since
-- Redis may evict it before. A thread that lives longer than was expected is looked at once too often: the next look is
-- set then, so that neither reads nor later writes need to.
local LOOK_MS = 3600000

local function next_look(now, ttl)
  if ttl > 0 and ttl < LOOK_MS then return now + ttl + 1000 end
  return now + LOOK_MS
end

local function enlist(threads, lapses, thread, now, ttl)
  redis.call('ZADD', threads, 0, thread)
  redis.call('ZADD', lapses, 'NX', next_look(now, ttl), thread)
end

local function strike(threads, lapses, thread)
  redis.call('ZREM', threads, thread)
  redis.call('ZREM', lapses, thread)
end
