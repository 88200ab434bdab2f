-- Shared by the scripts that take something out of a thread; they include reading.lua first.
local function drop_writes(k)
  local fields = {}
  if write_fields(k, fields) == 0 then return end
  local frames = hmget(fields)
  for i = 1, #frames do
    local w = header(frames[i])
    fields[#fields + 1] = place_field(k, w[2], w[1])
  end
  fields[#fields + 1] = 'y' .. k
  hdel(fields)
end

-- Forget one use of each blob that a frame refers to.
local function release(num, refs)
  local used = {}
  for i = 1, #refs, 2 do used[#used + 1] = 'r' .. blob_key(num, refs[i], refs[i + 1]) end
  if #used == 0 then return end
  local counts, gone, kept = hmget(used), {}, {}
  for i = 1, #used do
    local count = tonumber(counts[i] or 0)
    if count > 1 then
      kept[#kept + 1] = used[i]
      kept[#kept + 1] = count - 1
    elseif count == 1 then
      gone[#gone + 1] = used[i]
      gone[#gone + 1] = 'b' .. string.sub(used[i], 2)
    end
  end
  if #gone > 0 then hdel(gone) end
  if #kept > 0 then hset(kept) end
end

-- Remove a checkpoint with its writes and the blobs that nobody else uses. The caller saves n, m and the links.
local function remove(m, n, k)
  local num = split(k)
  local l = link(k)
  release(num, header(hget('c' .. k))[4])
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
