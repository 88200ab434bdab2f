-- probe: whether the user may run some commands. They are such that nothing is changed.
--
-- KEYS[1] a key that does not exist
-- ARGV[1] packed list of calls {command, arguments ...}
-- Reply: what each was refused with, or ""
local reply = {}
for i, call in ipairs(cmsgpack.unpack(ARGV[1])) do
  local answer = redis.pcall(unpack(call))
  reply[i] = type(answer) == 'table' and answer.err or ''
end
return reply
