-- The time and the keeping of counters: the one part that a test replaces by its own.

local function store_now()
  local clock = redis.call('TIME')
  return tonumber(clock[1]) * 1e6 + tonumber(clock[2])
end

local function store_keep(key, value, microseconds)
  redis.call('SET', key, value, 'PX', math.ceil(microseconds / 1000) + 1)
end
