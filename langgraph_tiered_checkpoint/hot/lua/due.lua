-- due: some of the threads that are due or dirty in one bucket, whether or not a worker has them in hand.
--
-- KEYS: due
-- ARGV: cursor most
--   cursor  "0" first;  most  how many, about; and, last, see run.lua
-- Reply: {next cursor, "0" at the end; run id of the server; thread ids}. Whatever is in the bucket from the first page to
--     the last is given, perhaps twice, however its due time changes meanwhile; unless another server has answered, to whom
--     the cursor means nothing.
-- include: run
local page = redis.call('ZSCAN', KEYS.due, ARGV.cursor, 'COUNT', ARGV.most)
local names = {}
for i = 1, #page[2], 2 do names[#names + 1] = page[2][i] end
return {page[1], RUN, names}
