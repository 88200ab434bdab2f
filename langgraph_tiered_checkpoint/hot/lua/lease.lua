-- lease: what a promoter must know of a thread before it flushes, and a lease on it.
--
-- KEYS: thread due
-- ARGV: thread_id lease
--   lease  ms; and, last, see run.lua
-- Reply: {"thread", incarnation, state, last flushed change id, its number, last change number, last write ms, reason,
--     "1" to rebase, "1" if pinned, "1" if it may be older than what Postgres holds: see run.lua, last copied checkpoint or
--     ""}, {"absent"}; and, last, the run id of the server
-- include: run
-- include: common
-- include: moved
local m = load()
if not m then
  call('ZREM', KEYS.due, ARGV.thread_id)
  return {'absent', RUN}
end
if m.state ~= 'd' then
  call('ZREM', KEYS.due, ARGV.thread_id)
else
  call('PERSIST', T) -- allowed when Redis is full, and lets the rest of the script run
  local leased = now_ms() + tonumber(ARGV.lease)
  call('ZADD', KEYS.due, 'XX', leased, ARGV.thread_id)
  call('HSET', T, 'e', leased)
end
return {
  'thread', m.incarnation, m.state, m.flushed, m.flushed_number, m.change, m.last_write, m.reason, m.rebase, m.pinned,
  moved(m) and 1 or 0, m.copied or '', RUN,
}
