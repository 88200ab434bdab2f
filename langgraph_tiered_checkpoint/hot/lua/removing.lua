-- Shared by the scripts that take something out of a thread; they include reading.lua and values.lua first.
local MOST_LOOKED_AT = 10000 -- values and pending writes in one script, about
local looked_at = 0

local function drop_writes(k)
  local fields = {}
  if write_fields(k, fields) == 0 then return end
  looked_at = looked_at + #fields
  local frames = hmget(fields)
  for i = 1, #frames do
    local w = header(frames[i], fields[i])
    fields[#fields + 1] = place_field(k, w[2], w[1])
  end
  fields[#fields + 1] = 'y' .. k
  hdel(fields)
end

-- Remove a checkpoint with its writes and the values that nobody else uses. The caller saves n and m, and then the rest
-- with `save_removals`.
local function remove(m, n, k)
  local num = split(k)
  local l = link(k)
  local keys = keys_of(num, header_of(k)[4])
  looked_at = looked_at + #keys
  for _, bk in ipairs(keys) do
    if tally(bk)[1] > 0 then use(bk, -1) end
  end
  drop_writes(k)
  hdel({'c' .. k, 'l' .. k})
  relink(l[1], 2, l[2])
  relink(l[2], 1, l[1])
  relink(l[3], 4, l[4])
  relink(l[4], 3, l[3])
  if n[2] == k then n[2] = l[1] end
  if n[3] == k then n[3] = l[2] end
  if m.th == k then m.th = l[3] end
  if m.tt == k then m.tt = l[4] end
  n[4] = n[4] - 1
  m.n = m.n - 1
  touched[k] = nil
end

-- Save a list of fields and values, and what removals have changed.
local function save_removals(out)
  local gone = {}
  add_links(out)
  add_values(out, gone)
  hset(out)
  if #gone > 0 then hdel(gone) end
end
