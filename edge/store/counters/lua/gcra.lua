-- Token bucket as GCRA (edge.phases.ratelimit.gcra). State: "<level> <at>": so many tokens were in use at that
-- microsecond. A clock that steps back drains nothing and is followed: that is written even when nothing is taken, else
-- nothing would drain until it is back where it was.
-- Tokens borrowed ahead may be used up to `lead` later, so they count as if they were used that late: the level is at
-- least what drains in `lead` before they are added. Seen from the moment of its use, no interval then holds more than
-- burst + rate * its length.

local SLACK = 1e-9

local function gcra_look(key, rate, burst, cost, now)
  local level, stepped = 0, false
  local stored = redis.call('GET', key)
  if stored then
    local was, at = string.match(stored, '^(%S+) (%S+)$')
    was, at = tonumber(was), tonumber(at)
    if was and at then
      stepped = now < at
      level = math.min(math.max(0, was - math.max(0, now - at) / 1e6 * rate), burst)
    end
  end
  local state = {key = key, rate = rate, burst = burst, cost = cost, level = level, stepped = stepped}
  state.available = math.max(0, math.floor((burst - level) / cost + SLACK))
  return state
end

local function gcra_ahead(state, taken, ahead, lead)
  local level = math.max(state.level + taken * state.cost, state.rate * lead / 1e6)
  return math.min(ahead, math.max(0, math.floor((state.burst - level) / state.cost + SLACK))), lead
end

local function gcra_take(state, taken, ahead, lead, now)
  if taken + ahead == 0 and not state.stepped then return end
  local level = state.level + taken * state.cost
  if ahead > 0 then
    level = math.max(level, state.rate * lead / 1e6) + ahead * state.cost
  end
  state.level = level
  store_keep(state.key, string.format('%.17g %.0f', level, now), level / state.rate * 1e6)
end

-- Gives what is left, microseconds until full, microseconds until one more request fits.
local function gcra_tell(state)
  local left = math.max(0, math.floor(state.burst - state.level + SLACK))
  local wait = math.max(0, state.level + state.cost - state.burst) / state.rate * 1e6
  if math.floor((state.burst - state.level) / state.cost + SLACK) >= 1 then wait = 0 end
  return left, state.level / state.rate * 1e6, wait
end
