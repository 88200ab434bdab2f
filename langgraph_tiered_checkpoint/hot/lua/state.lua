-- What each write of a thread changes, as `struct` packs it into the field "s", and at what place in the list that
-- struct.unpack gives: kind (the byte of e: ephemeral, d: dirty, c: clean), reads (whether get.lua's quick way may be taken: 0
-- no; 1; 2 if all of the thread is here), writes (1: that of the scripts that write), interrupted, own_ttl (1: the saver's TTLs
-- do not apply), number of the last change, ms of the last write, checkpoints, those of them in the root namespace, bytes, ms
-- since when it is dirty, ms when it was created, ttl and hot ttl in ms (0: never). Then, in the field, come the run id of the
-- server under which the thread was last compared with Postgres, NUL, the incarnation, NUL, and the newest place in id order.
local STATE, STATE_END = '>BBBBBddddddddd', 78
local KIND, READS, WRITES, INTERRUPTED, OWN_TTL, CHANGE, LAST_WRITE = 1, 2, 3, 4, 5, 6, 7
local CHECKPOINTS, ROOTS, BYTES, DIRTY_SINCE, CREATED, TTL, HOT_TTL = 8, 9, 10, 11, 12, 13, 14
local EPHEMERAL, DIRTY, CLEAN = 101, 100, 99
