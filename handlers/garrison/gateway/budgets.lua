-- Marks the requests that the budget service is to be asked about; Envoy's rate limit filter behind this asks for these.
-- limits.py renders this file into Envoy's configuration with a line in front: BUDGETED, a text (a script may hold few
-- constants, but long ones) of lines: a client, a tab, and whether only its queries of the day are counted ("queries") or
-- its requests in progress, too ("places"). Who is not in it has no budget.
-- Envoy's Lua filter lets a request pass if the script raises; `envoy_on_request` therefore catches and refuses.

local OURS, MARKS = "garrison", "garrison.budgets"
local NOTHING = {}
local budgeted = {}
for client, counted in string.gmatch(BUDGETED, "([^\t\n]+)\t([^\n]+)\n") do budgeted[client] = counted end

local function mark(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local client = (metadata:get(OURS) or NOTHING).client
  local counted = client and budgeted[client]
  if not counted then return end
  metadata:set(MARKS, "begin", "yes")
  if counted == "places" then metadata:set(MARKS, "end", "yes") end
end

function envoy_on_request(handle)
  local finished, problem = pcall(mark, handle)
  if not finished then
    handle:logErr("garrison: the budget could not be looked up: " .. tostring(problem))
    handle:respond({ [":status"] = "500" }, "")
  end
end
