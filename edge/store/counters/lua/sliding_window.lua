-- Sliding window as two cells: used = current + previous * (1 - elapsed share of the current window).
-- State: "<window number>:<current>:<previous>".

local function window_look(key, limit, seconds, now)
  local length = seconds * 1e6
  local number = math.floor(now / length)
  local elapsed = (now - number * length) / length
  local current, previous = 0, 0
  local stored = redis.call('GET', key)
  if stored then
    local w, c, p = string.match(stored, '^(%d+):(%d+):(%d+)$')
    if w then
      w, c, p = tonumber(w), tonumber(c), tonumber(p)
      if w == number then
        current, previous = c, p
      elseif w == number - 1 then
        previous = c
      end
    end
  end
  local state = {key = key, limit = limit, length = length, number = number, elapsed = elapsed}
  state.current, state.previous = current, previous
  state.available = math.max(0, math.floor(limit - current - previous * (1 - elapsed) + 1e-9))
  return state
end

local function window_take(state, taken)
  if taken > 0 then
    state.current = state.current + taken
    local value = string.format('%d:%d:%d', state.number, state.current, state.previous)
    redis.call('SET', state.key, value, 'PX', math.ceil(state.length / 500))
  end
end

local function window_tell(state)
  local current, previous, left_share = state.current, state.previous, 1 - state.elapsed
  local left = math.max(0, math.floor(state.limit - current - previous * left_share + 1e-9))
  local wait = 0
  if left < 1 then
    local room = state.limit - 1 - current
    if room >= 0 and previous > 0 then
      wait = (left_share - room / previous) * state.length
    else
      wait = (left_share + math.max(0, 1 - (state.limit - 1) / current)) * state.length
    end
  end
  local reset = 0
  if current > 0 then
    reset = (left_share + 1) * state.length
  elseif previous > 0 then
    reset = left_share * state.length
  end
  return left, reset, wait
end
