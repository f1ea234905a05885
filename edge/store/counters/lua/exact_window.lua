-- Small sliding window, counted one by one (edge.phases.ratelimit.exact_window). State: the microsecond of each
-- admission, oldest first, "<at> <at> ...". What lies in the future of a clock that stepped back counts as of now.
-- Too small to borrow from.

local function exact_look(key, limit, seconds, cost, now)
  local length, marks, stepped = seconds * 1e6, {}, false
  local stored = redis.call('GET', key)
  if stored then
    local number, current, previous = string.match(stored, '^(%d+):(%d+):(%d+)$')
    if number then  -- it was large and had two cells: all that may still count counts as of now
      for n = 1, math.min(limit, current + previous) do marks[n] = now end
    else
      for at in string.gmatch(stored, '%d+') do
        at = tonumber(at)
        if at > now then at, stepped = now, true end
        if at + length > now then marks[#marks + 1] = at end
      end
    end
  end
  local state = {key = key, limit = limit, cost = cost, length = length, marks = marks, now = now, stepped = stepped}
  state.available = math.max(0, math.floor((limit - #marks) / cost))
  return state
end

local function exact_ahead(state, taken, ahead, lead)
  return 0, lead
end

local function exact_take(state, taken)
  if taken == 0 and not state.stepped then return end
  local words = {}
  for _ = 1, taken * state.cost do state.marks[#state.marks + 1] = state.now end
  for n, at in ipairs(state.marks) do words[n] = string.format('%.0f', at) end
  store_keep(state.key, table.concat(words, ' '), state.length)
end

local function exact_tell(state)
  local marks, now, length = state.marks, state.now, state.length
  local left = math.max(0, state.limit - #marks)
  if #marks == 0 then return left, 0, left < state.cost and length or 0 end
  local wait = 0
  if left < state.cost then wait = marks[math.min(state.cost - left, #marks)] + length - now end
  return left, marks[#marks] + length - now, wait
end
