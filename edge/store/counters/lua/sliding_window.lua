-- Sliding window as two cells (edge.phases.ratelimit.sliding_window): used = current + previous * (1 - elapsed share of
-- the current window). State: "<window number>:<current>:<previous>".
-- Tokens borrowed ahead count as used now, in this window, so they are good to its end and no longer; the nearer that
-- is, the fewer are given, because what is not used by then is lost.

local function window_cells(stored)
  local number, current, previous = string.match(stored, '^(%d+):(%d+):(%d+)$')
  if number then return tonumber(number), tonumber(current), tonumber(previous) end
  local _, marks = string.gsub(stored, '%d+', '')  -- it was small and counted one by one
  return nil, marks, 0
end

local function window_look(key, limit, seconds, cost, now)
  local length = seconds * 1e6
  local number = math.floor(now / length)
  local current, previous, stepped = 0, 0, false
  local stored = redis.call('GET', key)
  if stored then
    local w, c, p = window_cells(stored)
    w = w or number
    if w > number + 1 then  -- the clock stepped back, by more than what can be waited for
      stepped = true
      current = math.min(limit, c + p)
    else
      number = math.max(number, w)
      if w == number then
        current, previous = c, p
      elseif w == number - 1 then
        previous = c
      end
    end
  end
  local elapsed = math.min(math.max(now - number * length, 0), length) / length
  local state = {key = key, limit = limit, cost = cost, length = length, number = number, elapsed = elapsed}
  state.current, state.previous, state.stepped = current, previous, stepped
  state.available = math.max(0, math.floor((limit - current - previous * (1 - elapsed)) / cost + 1e-9))
  return state
end

local function window_ahead(state, taken, ahead, lead)
  local rest = (1 - state.elapsed) * state.length
  if rest < lead then
    ahead, lead = math.floor(ahead * rest / lead), rest
  end
  return math.min(ahead, state.available - taken), lead
end

local function window_take(state, taken, ahead)
  if taken + ahead == 0 and not state.stepped then return end
  state.current = state.current + (taken + ahead) * state.cost
  store_keep(state.key, string.format('%.0f:%.0f:%.0f', state.number, state.current, state.previous), state.length * 2)
end

local function window_tell(state)
  local current, previous, rest = state.current, state.previous, 1 - state.elapsed
  local free = state.limit - current - previous * rest
  local wait = 0
  if math.floor(free / state.cost + 1e-9) < 1 then
    local room = state.limit - state.cost - current
    if room >= 0 then
      wait = math.max(0, (rest - room / previous) * state.length)
    else
      wait = (rest + 1 - math.max(0, state.limit - state.cost) / math.max(current, 1)) * state.length
    end
  end
  local reset = 0
  if current > 0 then
    reset = (rest + 1) * state.length
  elseif previous > 0 then
    reset = rest * state.length
  end
  return math.max(0, math.floor(free + 1e-9)), reset, wait
end
