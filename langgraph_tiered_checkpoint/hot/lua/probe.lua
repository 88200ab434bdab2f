-- probe: whether the user may run some commands. They are such that nothing is changed.
--
-- KEYS: absent
-- ARGV: calls
--   absent  a key that does not exist;  calls  packed list of {command, arguments ...}
-- Reply: what each was refused with, or ""
local reply = {}
for i, call in ipairs(cmsgpack.unpack(ARGV.calls)) do
  local answer = redis.pcall(unpack(call))
  reply[i] = type(answer) == 'table' and answer.err or ''
end
return reply
