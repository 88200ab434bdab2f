-- Shared by the scripts that take run.lua's RUN into account.

-- Whether Postgres has to be asked first: the thread was last compared with it under another run of the server, so a
-- restart or a failover may have taken it back in time; or was compared, and is still to be uploaded.
local function moved(m)
  return m.rebase > 0 or (RUN ~= '' and m.run ~= RUN)
end

-- What is replied then: {"moved", incarnation, flushed change id, 1 if it is to be uploaded}.
local function moved_reply(m)
  return {'moved', m.incarnation, m.flushed, m.rebase}
end

-- Whether a marker counts. One that an older Redis has brought back does not, except that a closed thread stays closed.
local function holds(x, now)
  return x and tonumber(x[3]) > now and (x[1] == 'closed' or RUN == '' or x[4] == RUN)
end
