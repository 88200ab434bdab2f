-- Shared by ack.lua and trim.lua: keep the newest root checkpoints, the subgraph calls they started, and what they need.

-- How many drops one script makes, so that none of them holds up Redis for long.
local MOST = 200
local MOST_UNFLUSHED = 1000

-- What must stay of a namespace below the cutoff: its head, and the head's parents that delta channels may need, or the
-- one that has its sends.
local function keep_chain(n, kept)
  local k = n[2]
  if k == '' then return end
  kept[k] = true
  local f, visited = header_of(k), {[k] = true}
  local depth = f[2] == 0 and has_sends_at_parent(k, f) and 1 or f[2]
  while depth > 0 do
    local parent = link(k)[5]
    k = parent ~= '' and n[1] .. ':' .. parent
    if not k or visited[k] or call('HEXISTS', T, 'l' .. k) == 0 then return end
    kept[k], visited[k] = true, true
    depth = depth - 1
  end
end

-- What Postgres does not hold yet must stay: every checkpoint that a change in the log has touched. Returns false if
-- that is too much to look through now; a later flush will trim.
local function keep_unflushed(m, kept)
  if m.ch - m.fn > MOST_UNFLUSHED then return false end
  for change = m.fn + 1, m.ch do
    local what = hget('g' .. change)
    what = what and open(what, 'g' .. change)
    if what then kept[what[3]] = true end
  end
  return true
end

-- Returns true if there is more to trim. Saves nothing but what it removes: the caller saves m and the links.
local function trim(m, most)
  local root = load_ns('')
  if most == 0 or not root or root[4] <= most then return false end
  local oldest, spaces, kept, names, changed = root[3], {[''] = root}, {}, {}, {}
  if not keep_unflushed(m, kept) then return false end
  keep_chain(root, kept)
  local surplus = root[4] - most
  local cutoff = oldest
  for _ = 1, surplus do cutoff = link(cutoff)[2] end
  local limit = id_of(cutoff)
  local cur, dropped = m.tt, 0
  while cur ~= '' and dropped < MOST and looked_at < MOST_LOOKED_AT do
    local num, id = split(cur)
    if not less(id, limit) then break end
    local following = link(cur)[4]
    names[num] = names[num] or hget('N' .. num)
    local ns = names[num]
    if not spaces[ns] then
      spaces[ns] = load_ns(ns)
      if not is_call(ns) then keep_chain(spaces[ns], kept) end
    end
    local n = spaces[ns]
    local root_id = ns ~= '' and header_of(cur)[1] or ''
    local stays = kept[cur] or (is_call(ns) and root_id ~= '' and not less(root_id, limit))
    if not stays then
      local newer = link(cur)[2]
      remove(m, n, cur)
      dropped = dropped + 1
      if newer ~= '' then
        if less(n[5], id_of(newer)) then n[5] = id_of(newer) end
      else
        n[5], n[6] = NOWHERE, 0
      end
      local started = ns == '' and id or root_id
      if started ~= '' and less(m.hz, started) then m.hz = started end
      m.wh = 0
      changed[ns] = true
    end
    cur = following
  end
  local out, gone = {}, {}
  for ns, n in pairs(spaces) do
    if changed[ns] then
      if n[4] == 0 and n[7] == 0 and is_call(ns) then
        gone[#gone + 1] = 'n' .. ns
        gone[#gone + 1] = 'N' .. n[1]
      else
        out[#out + 1] = 'n' .. ns
        out[#out + 1] = pack(n)
      end
    end
  end
  if #gone > 0 then hdel(gone) end
  if #out > 0 then hset(out) end
  return dropped == MOST or looked_at >= MOST_LOOKED_AT
end
