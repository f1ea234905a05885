-- Decides all limits of `wanted` equal requests at once, all or nothing for each request; `ahead` more are borrowed
-- when they fit. KEYS: one per limit, all in one slot. ARGV: wanted, ahead, lead in microseconds, then for each limit
-- algorithm ('g' or 'w'), rate or limit, burst or seconds, 1 when it is enforced.
-- Gives {admitted, borrowed, then for each limit: available before, left, reset, wait}, times in microseconds.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1e6 + tonumber(clock[2])
local wanted, ahead, lead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local admitted, states = wanted, {}

for i, key in ipairs(KEYS) do
  local at = 4 + (i - 1) * 4
  local a, b = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local state
  if ARGV[at] == 'g' then
    state = gcra_look(key, a, b, now)
  else
    state = window_look(key, a, b, now)
  end
  state.bucket = ARGV[at] == 'g'
  state.enforced = ARGV[at + 3] == '1'
  if state.enforced then admitted = math.min(admitted, state.available) end
  states[i] = state
end

if admitted < wanted then ahead = 0 end
for _, state in ipairs(states) do
  if not state.bucket then
    ahead = 0
  elseif ahead > 0 and state.enforced then
    ahead = math.min(ahead, (gcra_ahead(state, admitted, lead, now)))
  end
end

local answer = {admitted, ahead}
for _, state in ipairs(states) do
  local taken = math.min(admitted, state.available)
  local left, reset, wait
  if state.bucket then
    gcra_take(state, taken, ahead, lead, now)
    left, reset, wait = gcra_tell(state, now)
  else
    window_take(state, taken)
    left, reset, wait = window_tell(state)
  end
  answer[#answer + 1] = state.available
  answer[#answer + 1] = left
  answer[#answer + 1] = math.ceil(reset)
  answer[#answer + 1] = math.ceil(wait)
end
return answer
