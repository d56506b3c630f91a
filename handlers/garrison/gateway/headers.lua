-- What goes through to the model server and what comes back, by allow-list; and which connections have to wait.
-- envoy renders this file into its configuration with lines in front: REPLIES (replies.py as a table from status to
-- {reason, body}), FALLBACK_STATUS and WAIT_HEADER.
-- Envoy's Lua filter lets a request pass if the script raises; `envoy_on_request` therefore catches and refuses.

local TO_SERVER = {
  [":method"] = true, [":path"] = true, [":scheme"] = true, [":authority"] = true,
  ["content-type"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["accept"] = true,
  ["x-request-id"] = true, ["x-garrison-client"] = true, ["x-garrison-scopes"] = true,
}
local TO_CLIENT = {
  [":status"] = true, ["content-type"] = true, ["content-length"] = true, ["date"] = true,
  ["retry-after"] = true, ["x-garrison-reason"] = true,
}
-- A flood is as fast as it is refused, and costs everyone else the time that refusing takes. So whoever floods has to
-- share a narrow way: all of them together may send one request in PACE_MS, each waits for its turn (WAIT_HEADER, in ms,
-- for Envoy's fault filter), and whose turn is too far away is refused. Those are connections with many points, one for
-- each refusal and one less for each prediction, and clients that were over their limit just now. Somebody who tries one
-- bad file after the other hardly notices.
local SUSPECT_POINTS, MOST_POINTS, FORGET_MS, MOST_CONNECTIONS = 8, 16, 10000, 4096
local PACE_MS, MOST_WAIT_MS, LIMITED_MS = 40, 1000, 1000
-- Each thread of Envoy has tables of its own, and connections of its own.
local connections, known, limited_ms, way_is_free_ms = {}, 0, {}, 0

local MEDIA_TYPES = { application = true, image = true, text = true }

local function keep_only(headers, allowed)
  local dropped = {}
  for name in pairs(headers) do
    if not allowed[name] then dropped[#dropped + 1] = name end
  end
  for _, name in ipairs(dropped) do headers:remove(name) end  -- not while iterating
end

-- TorchServe's parser of forms takes seconds for a body of 2 MB, so no form reaches it. Not a list of what is bad:
-- one media type, written as RFC 9110 says, of three kinds, less the one form type among them; or a form that forms.lua
-- takes apart.
local function is_accepted_type(headers)
  local count = headers:getNumValues("content-type")
  if count == 0 then return true end
  if count > 1 then return false end
  local kind, subtype, rest = string.match(string.lower(headers:get("content-type")), "^(%a+)/([%w!#$&^_.+-]+)[ \t]*(.*)$")
  if not kind then return false end
  if kind == "multipart" then return subtype == "form-data" end
  if not MEDIA_TYPES[kind] then return false end
  if rest ~= "" and (string.sub(rest, 1, 1) ~= ";" or string.find(rest, ",", 1, true)) then return false end
  return subtype ~= "x-www-form-urlencoded"
end

local function is_plain_encoding(headers)
  local count = headers:getNumValues("content-encoding")
  return count == 0 or (count == 1 and string.lower(headers:get("content-encoding")) == "identity")
end

local function name_connection(handle)
  return handle:streamInfo():downstreamDirectRemoteAddress()
end

local function is_recent(then_ms, now_ms, within_ms)
  local age_ms = now_ms - then_ms
  return age_ms >= 0 and age_ms < within_ms  -- a clock that was put back must not make anybody wait for hours
end

local function is_suspect(handle, now_ms)
  local seen = connections[name_connection(handle)]
  return seen ~= nil and seen.points >= SUSPECT_POINTS and is_recent(seen.last_ms, now_ms, FORGET_MS)
end

local function is_over_limit(handle, now_ms)
  local client = handle:headers():get("x-garrison-client")
  return client ~= nil and is_recent(limited_ms[client] or 0, now_ms, LIMITED_MS)
end

-- How long this request has to wait; more than MOST_WAIT_MS if there is no turn for it.
local function take_turn(handle)
  local now_ms = handle:timestamp()
  if not is_suspect(handle, now_ms) and not is_over_limit(handle, now_ms) then return 0 end
  if way_is_free_ms - now_ms > MOST_WAIT_MS + PACE_MS then way_is_free_ms = now_ms end  -- the clock was put back
  local wait_ms = math.max(0, way_is_free_ms - now_ms)
  if wait_ms <= MOST_WAIT_MS then way_is_free_ms = now_ms + wait_ms + PACE_MS end
  return wait_ms
end

local function find_client(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("garrison")  -- by identity.lua
  return noted and noted.client
end

local function count_points(handle, points)
  local name, now_ms = name_connection(handle), handle:timestamp()
  local seen = connections[name]
  if seen == nil then
    if points < 0 then return end
    if known >= MOST_CONNECTIONS then connections, known = {}, 0 end
    seen, known = { points = 0, last_ms = now_ms }, known + 1
    connections[name] = seen
  elseif not is_recent(seen.last_ms, now_ms, FORGET_MS) then
    seen.points = 0
  end
  if points < 0 and not find_client(handle) then return end  -- asking for health, without a key, proves nothing
  seen.points = math.max(0, math.min(MOST_POINTS, seen.points + points))
  seen.last_ms = now_ms
end

-- Return the status to refuse with, or nil.
local function check_request(handle)
  local headers = handle:headers()
  local accepted = is_accepted_type(headers) and is_plain_encoding(headers)
  keep_only(headers, TO_SERVER)
  if not accepted then return "415" end
  local wait_ms = take_turn(handle)
  if wait_ms > MOST_WAIT_MS then return "503" end
  if wait_ms > 0 then headers:add(WAIT_HEADER, string.format("%d", wait_ms)) end
  return nil
end

function envoy_on_request(handle)
  local finished, status = pcall(check_request, handle)
  if not finished then
    handle:logErr("garrison: the header check failed: " .. tostring(status))
    handle:respond({ [":status"] = "500" }, "")
  elseif status then
    handle:respond({ [":status"] = status }, "")
  end
end

local function count_verdict(handle, status, reason)
  local client = reason == "rate_limited" and find_client(handle)
  if client then limited_ms[client] = handle:timestamp() end
  if status < 500 then count_points(handle, 1) end
end

local function has_own_reason(headers)
  local reason = headers:get("x-garrison-reason")
  return reason ~= nil and #reason <= 64 and string.match(reason, "^[%l%d_]+$") ~= nil
end

-- A failure that nobody worded for clients says nothing about the server but its status.
local function replace_failure(handle, headers, status)
  local reply = REPLIES[status]
  if not reply then
    reply = REPLIES[FALLBACK_STATUS]
    headers:replace(":status", tostring(FALLBACK_STATUS))
  end
  headers:replace("content-type", "application/json")
  headers:replace("x-garrison-reason", reply.reason)
  handle:body(true):setBytes(reply.body)
end

function envoy_on_response(handle)
  local headers = handle:headers()
  keep_only(headers, TO_CLIENT)
  headers:replace("x-content-type-options", "nosniff")  -- an answer is data, whatever a browser thinks it looks like
  headers:replace("cache-control", "no-store")
  local status = tonumber(headers:get(":status"))
  if has_own_reason(headers) then
    count_verdict(handle, status, headers:get("x-garrison-reason"))
  else
    headers:remove("x-garrison-reason")
    if status >= 300 then replace_failure(handle, headers, status) else count_points(handle, -1) end
  end
end
