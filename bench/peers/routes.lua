-- Asks for so many different paths in turn, spread over all routes of the tenant.
local number = 0

request = function()
  number = (number + 1) % @PATHS@
  return wrk.format("GET", "/r/" .. (number % @ROUTES@) .. "/" .. number)
end
