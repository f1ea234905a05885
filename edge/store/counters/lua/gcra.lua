-- Token bucket as GCRA: one number per bucket, the theoretical arrival time in microseconds.
-- A token borrowed ahead may be used up to `lead` later, so it counts as if it were used that late; seen from the
-- moment of its use, no interval then holds more than burst + rate * its length.

local function gcra_look(key, rate, burst, now)
  local step = 1e6 / rate
  local tat = tonumber(redis.call('GET', key)) or 0
  local base = math.max(tat, now)
  local state = {key = key, step = step, span = burst * step, tat = base}
  state.available = math.max(0, math.floor((now + state.span - base) / step + 1e-6))
  return state
end

local function gcra_ahead(state, taken, lead, now)
  local base = math.max(state.tat + taken * state.step, now + lead)
  return math.max(0, math.floor((now + state.span - base) / state.step + 1e-6)), base
end

local function gcra_take(state, taken, ahead, lead, now)
  local tat = state.tat + taken * state.step
  if ahead > 0 then
    tat = math.max(tat, now + lead) + ahead * state.step
  end
  if taken + ahead > 0 then
    redis.call('SET', state.key, string.format('%.2f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
  end
  state.tat = tat
end

-- Gives what is left, microseconds until full, microseconds until one more fits.
local function gcra_tell(state, now)
  local left = math.max(0, math.floor((now + state.span - state.tat) / state.step + 1e-6))
  local wait = 0
  if left < 1 then wait = state.tat + state.step - now - state.span end
  return left, state.tat - now, wait
end
