-- Keep what a probe found, if nobody else kept something since the state was read.
-- KEYS: due set, plan, states (one slot). ARGV: member, state as it was read ('' for none), new state, next due time.
-- Gives 1 when kept; 0 when another probe was faster or the target has left the plan.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  return 0
end
if (redis.call('HGET', KEYS[3], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[1], 'XX', ARGV[4], ARGV[1])
return 1
