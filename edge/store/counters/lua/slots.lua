-- How many of a limit's slots a worker holds (edge.store.counters.slots). KEYS: the hash of one counter: worker -> "<held>
-- <microsecond of its end>". ARGV: limit, the worker, how many it wants to hold in all, microseconds a hold is good for.
-- Gives {held now by this worker, free then}. A worker that holds more than it may (the limit was lowered, or the hash
-- was lost) gives back as it wants less; nobody is given more before that.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1e6 + tonumber(clock[2])
local limit, worker, wanted, lease = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local mine, others = 0, 0

local stored = redis.call('HGETALL', KEYS[1])
for n = 1, #stored, 2 do
  local held, ends = string.match(stored[n + 1], '^(%d+) (%d+)$')
  held, ends = tonumber(held), tonumber(ends)
  if not held or ends <= now or ends > now + 10 * lease then
    redis.call('HDEL', KEYS[1], stored[n])
  elseif stored[n] == worker then
    mine = held
  else
    others = others + held
  end
end

local held = math.min(wanted, math.max(mine, limit - others))
if held > 0 then
  redis.call('HSET', KEYS[1], worker, string.format('%.0f %.0f', held, now + lease))
  redis.call('PEXPIRE', KEYS[1], math.ceil(lease / 1000))
else
  redis.call('HDEL', KEYS[1], worker)
end
return {held, math.max(0, limit - others - held)}
