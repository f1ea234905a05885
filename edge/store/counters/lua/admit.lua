-- Decides all limits of `wanted` equal requests at once, all or nothing for each request; `ahead` more are borrowed
-- as far as they fit. KEYS: one per limit, all in one slot. ARGV: wanted, ahead, lead in microseconds, then for each
-- limit its kind, rate or limit, burst or seconds, cost of a request, 1 when it is enforced.
-- Gives {admitted, borrowed, microseconds they are good for, then for each limit: available before (in requests), left,
-- reset, wait}, times in microseconds.

local KINDS = {
  g = {look = gcra_look, ahead = gcra_ahead, take = gcra_take, tell = gcra_tell},
  w = {look = window_look, ahead = window_ahead, take = window_take, tell = window_tell},
  c = {look = calendar_look, ahead = calendar_ahead, take = calendar_take, tell = calendar_tell},
  x = {look = exact_look, ahead = exact_ahead, take = exact_take, tell = exact_tell},
}
local now = store_now()
local wanted, ahead, lead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local admitted, states, hold = wanted, {}, lead

for i, key in ipairs(KEYS) do
  local at = 4 + (i - 1) * 5
  local kind = KINDS[ARGV[at]]
  local state = kind.look(key, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), now)
  state.kind = kind
  if ARGV[at + 4] == '1' then admitted = math.min(admitted, state.available) end
  states[i] = state
end

if admitted < wanted then ahead = 0 end
for _, state in ipairs(states) do
  if ahead > 0 then
    local good
    ahead, good = state.kind.ahead(state, admitted, ahead, lead)
    hold = math.min(hold, good)
  end
end

local answer = {admitted, ahead, math.floor(hold)}
for _, state in ipairs(states) do
  state.kind.take(state, math.min(admitted, state.available), ahead, lead, now)
  local left, reset, wait = state.kind.tell(state)
  answer[#answer + 1] = state.available
  answer[#answer + 1] = left
  answer[#answer + 1] = math.ceil(reset)
  answer[#answer + 1] = math.ceil(wait)
end
return answer
