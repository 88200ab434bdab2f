-- present: which threads of one bucket are there. A list may have threads that have lapsed, until they are swept.
--
-- KEYS: threads...
-- Reply: "1" or "0" for each
local there = {}
for i = 1, #KEYS do there[i] = redis.pcall('HEXISTS', KEYS[i], 'm') ~= 0 and '1' or '0' end
return there
