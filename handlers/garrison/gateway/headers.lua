-- What goes through to the model server and what comes back, by allow-list.
-- envoy renders this file into its configuration with two lines in front: REPLIES (replies.py as a table from status to
-- {reason, body}) and FALLBACK_STATUS.
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
local MEDIA_TYPES = { application = true, image = true, text = true }

local function keep_only(headers, allowed)
  local dropped = {}
  for name in pairs(headers) do
    if not allowed[name] then dropped[#dropped + 1] = name end
  end
  for _, name in ipairs(dropped) do headers:remove(name) end  -- not while iterating
end

-- TorchServe's parser of forms takes seconds for a body of 2 MB, so no form reaches it. Not a list of what is bad:
-- one media type, written as RFC 9110 says, of three kinds; then the one form type among them.
local function is_accepted_type(headers)
  local count = headers:getNumValues("content-type")
  if count == 0 then return true end
  if count > 1 then return false end
  local kind, subtype, rest = string.match(string.lower(headers:get("content-type")), "^(%a+)/([%w!#$&^_.+-]+)[ \t]*(.*)$")
  if not kind or not MEDIA_TYPES[kind] then return false end
  if rest ~= "" and (string.sub(rest, 1, 1) ~= ";" or string.find(rest, ",", 1, true)) then return false end
  return subtype ~= "x-www-form-urlencoded"
end

local function is_plain_encoding(headers)
  local count = headers:getNumValues("content-encoding")
  return count == 0 or (count == 1 and string.lower(headers:get("content-encoding")) == "identity")
end

local function check_request(handle)
  local headers = handle:headers()
  local accepted = is_accepted_type(headers) and is_plain_encoding(headers)
  keep_only(headers, TO_SERVER)
  return accepted
end

function envoy_on_request(handle)
  local finished, accepted = pcall(check_request, handle)
  if not finished then
    handle:logErr("garrison: the header check failed: " .. tostring(accepted))
    handle:respond({ [":status"] = "500" }, "")
  elseif not accepted then
    handle:respond({ [":status"] = "415" }, "")
  end
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
  if has_own_reason(headers) then return end
  headers:remove("x-garrison-reason")
  local status = tonumber(headers:get(":status"))
  if status >= 300 then replace_failure(handle, headers, status) end
end
