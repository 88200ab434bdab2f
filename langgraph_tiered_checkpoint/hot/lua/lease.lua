-- lease: what a promoter must know of a thread before it flushes, and a lease on it.
--
-- KEYS[1] thread  [2] due
-- ARGV[1] thread id  [2] lease ms
-- Reply: {"thread", incarnation, state, last flushed change id, its number, last change number, last write ms, reason,
--     "1" to rebase, "1" if pinned, "1" if it may be older than what Postgres holds: see run.lua, last copied checkpoint or ""}, {"absent"};
--     and, last, the run id of the server
-- include: common
-- include: run
local m = load()
if not m then
  call('ZREM', KEYS[2], ARGV[1])
  return {'absent', RUN}
end
if m.s ~= 'd' then
  call('ZREM', KEYS[2], ARGV[1])
else
  call('PERSIST', T) -- allowed when Redis is full, and lets the rest of the script run
  local leased = now_ms() + tonumber(ARGV[2])
  call('ZADD', KEYS[2], 'XX', leased, ARGV[1])
  call('HSET', T, 'e', leased)
end
return {'thread', m.i, m.s, m.fl, m.fn, m.ch, m.lw, m.rs, m.rb, m.pin, moved(m) and 1 or 0, m.cp or '', RUN}
