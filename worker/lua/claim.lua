-- Claim targets whose probe is due: nobody else gets them until the lease ends.
-- KEYS: due set, plan, states (one slot). ARGV: now, lease end, how many at most.
-- Gives a flat list: member, plan, state ('' when there is none). A member without a plan is forgotten.
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
if #members == 0 then
  return {}
end
local plans = redis.call('HMGET', KEYS[2], unpack(members))
local states = redis.call('HMGET', KEYS[3], unpack(members))
local claimed = {}
for index, member in ipairs(members) do
  if plans[index] then
    redis.call('ZADD', KEYS[1], ARGV[2], member)
    claimed[#claimed + 1] = member
    claimed[#claimed + 1] = plans[index]
    claimed[#claimed + 1] = states[index] or ''
  else
    redis.call('ZREM', KEYS[1], member)
    redis.call('HDEL', KEYS[3], member)
  end
end
return claimed
