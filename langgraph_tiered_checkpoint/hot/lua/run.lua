-- Shared by the scripts that must not trust what an older Redis has brought back. Their last ARGV is the id under which
-- the server is running, "" where it does not tell or there is no cold tier; it is taken off here.
local RUN = table.remove(ARGV)
