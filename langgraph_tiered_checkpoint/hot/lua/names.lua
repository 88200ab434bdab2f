-- names: one page of the members of a bucket's list that begin with a prefix, in bytewise order: of its threads, or of the
-- threads that a run has written to.
--
-- KEYS: list
--   list   threads, or runs
-- ARGV: prefix after most
--   prefix  what members begin with: "", or run id and NUL;  after  the last member of the page before, or "";  most  members
-- Reply: the members
local from = ARGV.after == '' and '[' .. ARGV.prefix or '(' .. ARGV.after
-- No member has the byte 255, which is in no UTF-8.
return redis.call('ZRANGEBYLEX', KEYS.list, from, '(' .. ARGV.prefix .. '\255', 'LIMIT', 0, ARGV.most)
