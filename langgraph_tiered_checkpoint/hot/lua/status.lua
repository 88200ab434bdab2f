-- status: what explain() says of a thread's hot copy.
--
-- KEYS: thread due
-- ARGV: thread_id
-- Reply: {"thread", what there is in the meta as a packed map, ttl ms (-1 none), due ms or "", memory bytes or -1, now ms,
--     ms at which a promoter's lease ends, 0 without one},
--     {"damaged", what cannot be read}, {"marker", kind}, {"absent"}
-- include: common
local sound, m, x = pcall(load)
if not sound then
  local what = type(m) == 'string' and string.match(m, 'LGTDAMAGED (.*)')
  if not what then load() end -- which fails again, in the words of the server
  return {'damaged', what}
end
if not m then
  if x then return {'marker', x[1]} end
  return {'absent'}
end
local memory = redis.pcall('MEMORY', 'USAGE', T, 'SAMPLES', 0) -- fields differ too much in size for samples
if type(memory) ~= 'number' then memory = -1 end
return {
  'thread', pack(m), call('PTTL', T), call('ZSCORE', KEYS.due, ARGV.thread_id) or '', memory, now_ms(),
  tonumber(hget('e') or 0),
}
