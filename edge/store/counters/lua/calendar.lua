-- Calendar quota: so many in each day or month of UTC (edge.phases.ratelimit.calendar_quota). State: "<second in which
-- the period began>=<used>". A clock that steps back stays in the newest period: it never gives a quota twice.
-- Nothing is borrowed: what would not be used in time were lost to the caller for the rest of the period.

local DAY = 86400

-- Gives the day (since 1970) on which the month of a day begins, and the one after it (the civil calendar, counted
-- from 1 March of the year 0 in eras of 400 years).
local function calendar_month(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local first = day - (doy - math.floor((153 * mp + 2) / 5))
  local year = yoe + era * 400
  if mp >= 10 then year = year + 1 end
  local lengths = {31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28}
  local length = lengths[mp + 1]
  if mp == 11 and (year % 4 == 0 and year % 100 ~= 0 or year % 400 == 0) then length = 29 end
  return first, first + length
end

local function calendar_period(second, length)
  local day = math.floor(second / DAY)
  if length <= DAY then return day * DAY, (day + 1) * DAY end
  local first, after = calendar_month(day)
  return first * DAY, after * DAY
end

local function calendar_look(key, limit, length, cost, now)
  local from, to = calendar_period(math.floor(now / 1e6), length)
  local used = 0
  local stored = redis.call('GET', key)
  if stored then
    local began, count = string.match(stored, '^(%d+)=(%d+)$')
    began, count = tonumber(began), tonumber(count)
    if began and began >= from then
      from, to = calendar_period(began, length)
      used = count
    end
  end
  local state = {key = key, limit = limit, cost = cost, from = from, rest = to * 1e6 - now, used = used}
  state.available = math.max(0, math.floor((limit - used) / cost))
  return state
end

local function calendar_ahead(state, taken, ahead, lead)
  return 0, lead
end

local function calendar_take(state, taken)
  if taken == 0 then return end
  state.used = state.used + taken * state.cost
  store_keep(state.key, string.format('%.0f=%.0f', state.from, state.used), state.rest + DAY * 1e6)
end

local function calendar_tell(state)
  local left = math.max(0, state.limit - state.used)
  return left, state.rest, left < state.cost and state.rest or 0
end
