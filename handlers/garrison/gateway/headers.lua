-- What goes through to the model server and what comes back, by allow-list; which connections have to wait; and what is
-- counted. envoy renders this file into its configuration with lines in front: REPLIES (replies.py as a table from status
-- to {reason, body}), FALLBACK_STATUS, GRPC_FAILURES (from gRPC status to {reason, message}), FALLBACK_GRPC_STATUS,
-- REASONS (the set of all reasons) and WAIT_HEADER. What a route is about stands in its metadata, see routes/table.py.
-- Envoy's Lua filter lets a request pass if the script raises; `envoy_on_request` therefore catches and refuses.

local TO_SERVER = {
  [":method"] = true, [":path"] = true, [":scheme"] = true, [":authority"] = true,
  ["content-type"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["accept"] = true,
  ["x-request-id"] = true, ["x-garrison-client"] = true,
}
local TO_CLIENT = {
  [":status"] = true, ["content-type"] = true, ["content-length"] = true, ["date"] = true,
  ["retry-after"] = true, ["x-garrison-reason"] = true,
}
local GUARD_TO_SERVER = { ["x-garrison-scopes"] = true }
local GRPC_TO_SERVER = { ["x-garrison-scopes"] = true, ["te"] = true, ["grpc-timeout"] = true }
local GRPC_TO_CLIENT = { ["grpc-status"] = true, ["grpc-message"] = true }
-- The answer to a preflight, by Envoy itself: no server is behind the route that it has.
local PREFLIGHT = {
  ["access-control-allow-methods"] = true, ["access-control-allow-headers"] = true, ["access-control-max-age"] = true,
}
local IN_TRAILERS = { ["grpc-status"] = true, ["grpc-message"] = true, ["x-garrison-reason"] = true }
local MOST_GRPC_MESSAGE = 1024
-- gRPC statuses that are no fault of the client's.
local SERVER_FAULTS = { [2] = true, [4] = true, [13] = true, [14] = true, [15] = true }

for _, more in ipairs({ GUARD_TO_SERVER, GRPC_TO_SERVER }) do
  for name in pairs(TO_SERVER) do more[name] = true end
end
for _, more in ipairs({ GRPC_TO_CLIENT, PREFLIGHT }) do
  for name in pairs(TO_CLIENT) do more[name] = true end
end
local TO_SERVER_BY_KIND = { guard = GUARD_TO_SERVER, grpc = GRPC_TO_SERVER }

-- A flood is as fast as it is refused, and costs everyone else the time that refusing takes. So whoever floods has to
-- share a narrow way: all of them together may send one request in PACE_MS, each waits for its turn (WAIT_HEADER, in ms,
-- for Envoy's fault filter), and whose turn is too far away is refused. Those are connections with many points, one for
-- each refusal and one less for each prediction, and clients that were over their limit just now. Somebody who tries one
-- bad file after the other hardly notices.
local SUSPECT_POINTS, MOST_POINTS, FORGET_MS, MOST_CONNECTIONS = 8, 16, 10000, 4096
local PACE_MS, MOST_WAIT_MS, LIMITED_MS = 40, 1000, 1000
-- Each thread of Envoy has tables of its own, and connections of its own.
local connections, known, limited_ms, way_is_free_ms = {}, 0, {}, 0

local LIMITED = { rate_limited = true, budget_used = true, too_many_concurrent = true }
local MINUTE_S = 60

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

-- What curl says of a body unless it is told otherwise, as in TensorFlow Serving's documentation. The guard reads JSON
-- whatever the type is, and no form; but a browser could send this type from any page, and then says where it comes from.
local function is_type_of_curl(headers)
  if headers:getNumValues("content-type") ~= 1 or headers:get("origin") then return false end
  return string.lower(headers:get("content-type")) == "application/x-www-form-urlencoded"
end

local function is_plain_encoding(headers, name)
  local count = headers:getNumValues(name)
  return count == 0 or (count == 1 and string.lower(headers:get(name)) == "identity")
end

local function is_grpc_type(value)
  return value ~= nil and string.sub(string.lower(value), 1, 16) == "application/grpc"
end

-- gRPC-Web and other encodings of messages are not gRPC; a message that came compressed could be of any size.
local function is_accepted_grpc(handle, headers)
  local kind = headers:getNumValues("content-type") == 1 and headers:get("content-type")
  if kind ~= "application/grpc" and kind ~= "application/grpc+proto" then return false end
  return handle:streamInfo():protocol() == "HTTP/2" and is_plain_encoding(headers, "grpc-encoding")
end

local function is_accepted(handle, headers, kind)
  if kind == "management" then return true end  -- 404, whatever it is
  if not is_plain_encoding(headers, "content-encoding") then return false end
  if kind == "grpc" then return is_accepted_grpc(handle, headers) end
  if (kind == "rest" or kind == "guard") and is_grpc_type(headers:get("content-type")) then return false end
  return is_accepted_type(headers) or (kind == "guard" and is_type_of_curl(headers))
end

local function drop_odd_grpc_headers(headers)
  if headers:get("te") ~= "trailers" then headers:remove("te") end
  local timeout = headers:get("grpc-timeout")
  if timeout and not (#timeout <= 9 and string.match(timeout, "^%d+[HMSmun]$")) then headers:remove("grpc-timeout") end
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
  local headers, kind = handle:headers(), handle:metadata():get("kind")
  local accepted = is_accepted(handle, headers, kind)
  keep_only(headers, TO_SERVER_BY_KIND[kind] or TO_SERVER)
  if not accepted then return "415" end
  if kind == "grpc" then drop_odd_grpc_headers(headers) end
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

local function count_verdict(handle, is_clients_fault, reason)
  local client = LIMITED[reason] and find_client(handle)
  if client then limited_ms[client] = handle:timestamp() end
  if is_clients_fault then count_points(handle, 1) end
end

-- Of names that are known beforehand only: a reason of the catalogue, a model with a route.
local function count_outcome(handle, reason)
  local stats, route = handle:stats(), handle:metadata()
  local kind = route:get("kind")
  if kind == "management" then
    stats:counter("management_attempts"):inc()
  elseif reason == "not_found" and (kind == nil or kind == "probe") then
    stats:counter("probes"):inc()
  end
  if reason then
    stats:counter("refused." .. (REASONS[reason] and reason or "in_its_own_words")):inc()
  elseif kind and kind ~= "probe" then
    stats:counter("answered." .. (route:get("model") ~= "" and route:get("model") or kind)):inc()
  end
end

local function count(handle, reason)
  local finished, problem = pcall(count_outcome, handle, reason)
  if not finished then handle:logErr("garrison: an answer was not counted: " .. tostring(problem)) end
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
  return reply.reason
end

-- A readiness socket says yes in the words of the protocol that was asked in.
local function replace_answer(handle, headers)
  local answer = handle:metadata():get("answer")
  if not answer then return end
  headers:replace("content-type", "application/json")
  handle:body(true):setBytes(answer)
end

-- The same for gRPC, whose verdict stands in `fields`: the trailers, or the headers of an answer that is nothing else.
-- Returns the reason, or nil for an answer.
local function check_grpc_verdict(fields)
  local status = tonumber(fields:get("grpc-status"))
  if status == 0 then
    fields:remove("grpc-message")
    fields:remove("x-garrison-reason")
    return nil
  end
  if has_own_reason(fields) and #(fields:get("grpc-message") or "") <= MOST_GRPC_MESSAGE then
    return fields:get("x-garrison-reason"), status
  end
  local reply = GRPC_FAILURES[status]
  if not reply then status, reply = FALLBACK_GRPC_STATUS, GRPC_FAILURES[FALLBACK_GRPC_STATUS] end
  fields:replace("grpc-status", tostring(status))
  fields:replace("grpc-message", reply.message)
  fields:replace("x-garrison-reason", reply.reason)
  return reply.reason, status
end

local function finish_grpc(handle, fields)
  local reason, status = check_grpc_verdict(fields)
  if reason then count_verdict(handle, not SERVER_FAULTS[status], reason) else count_points(handle, -1) end
  count(handle, reason)
end

local function pass_grpc(handle, headers)
  if headers:get("grpc-status") then return finish_grpc(handle, headers) end
  headers:remove("x-garrison-reason")
  local trailers = handle:trailers()  -- waits for them, while the messages pass
  if not trailers then return count(handle, "server_error") end
  keep_only(trailers, IN_TRAILERS)
  finish_grpc(handle, trailers)
end

-- Whatever is not gRPC cannot answer it: the server failed.
local function replace_grpc_failure(handle, headers)
  local reply = GRPC_FAILURES[FALLBACK_GRPC_STATUS]
  keep_only(headers, { [":status"] = true, ["date"] = true })
  headers:replace(":status", "200")
  headers:replace("content-type", "application/grpc")
  headers:replace("grpc-status", tostring(FALLBACK_GRPC_STATUS))
  headers:replace("grpc-message", reply.message)
  headers:replace("x-garrison-reason", reply.reason)
  handle:body(true):setBytes("")
  count(handle, reply.reason)
end

-- Limiters of bytes tell how much their bucket holds and has left; a full one is enough for any request.
local function say_when_full(headers)
  local seconds = 0
  for index = 0, headers:getNumValues("x-ratelimit-limit") - 1 do
    local most = tonumber(headers:getAtIndex("x-ratelimit-limit", index))
    local left = tonumber(headers:getAtIndex("x-ratelimit-remaining", index))
    if most and left and most > 0 then seconds = math.max(seconds, math.ceil((most - left) * MINUTE_S / most)) end
  end
  if seconds > 0 then headers:replace("retry-after", string.format("%d", seconds)) end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("x-garrison-reason") == "rate_limited" then say_when_full(headers) end
  local status = tonumber(headers:get(":status"))
  if is_grpc_type(headers:get("content-type")) and status == 200 then
    keep_only(headers, GRPC_TO_CLIENT)
    return pass_grpc(handle, headers)
  end
  local kind, reason = handle:metadata():get("kind"), nil
  keep_only(headers, kind == "probe" and PREFLIGHT or TO_CLIENT)
  if has_own_reason(headers) then
    reason = headers:get("x-garrison-reason")
    count_verdict(handle, status < 500, reason)
  elseif kind == "grpc" then
    return replace_grpc_failure(handle, headers)
  else
    headers:remove("x-garrison-reason")
    if status >= 300 then
      reason = replace_failure(handle, headers, status)
    else
      count_points(handle, -1)
      replace_answer(handle, headers)
    end
  end
  count(handle, reason)
end
