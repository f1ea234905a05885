-- Advance generations once per call, however often the call is delivered.
-- KEYS: generations, receipt (one slot). ARGV: life of the receipt in seconds, then the fields.
-- Gives 1 when advanced, 0 when this call had been here before.
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[1]) then
  return 0
end
for index = 2, #ARGV do
  redis.call('HINCRBY', KEYS[1], ARGV[index], 1)
end
return 1
