-- Shared by the scripts that read a thread for Postgres.

-- Whether this is still what is to be copied. Not if the thread is ephemeral, perhaps again; and not, for a first copy,
-- if Postgres has had it since: then it may have been filled in from there, and deleted there.
local function for_postgres(m, incarnation, flushed)
  return m and m.i == incarnation and m.s ~= 'e' and (flushed ~= '' or m.fl == '')
end
