-- names: one page of the members of a bucket's list that begin with a prefix, in bytewise order: of its threads, or of the
-- threads that a run has written to.
--
-- KEYS[1] threads, or runs
-- ARGV[1] what members begin with: "", or run id and NUL  [2] the last member of the page before, or ""  [3] members at most
-- Reply: the members
local from = ARGV[2] == '' and '[' .. ARGV[1] or '(' .. ARGV[2]
-- No member has the byte 255, which is in no UTF-8.
return redis.call('ZRANGEBYLEX', KEYS[1], from, '(' .. ARGV[1] .. '\255', 'LIMIT', 0, ARGV[3])
