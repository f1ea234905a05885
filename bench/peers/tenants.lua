-- Asks so many tenants in turn, each for all of its routes; as many different paths however few the tenants are.
local number = 0

request = function()
  number = number + 1
  local caller = number % @CALLERS@
  local route = math.floor(number / @CALLERS@) % @ROUTES@
  local host = "tenant-" .. (caller % @TENANTS@) .. ".localhost"
  return wrk.format("GET", "/r/" .. route .. "/" .. caller, {Host = host})
end
