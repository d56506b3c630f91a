-- Takes the input out of a form, so that the model server's parser of forms, on which seconds can be spent, sees none.
-- Runs behind the buffer filter, which holds the whole body within the model's limit. What is taken apart here is what
-- curl -F and every HTTP library write for one field, named data or body, and nothing else: anything that two parsers
-- may read differently is refused.
-- Envoy's Lua filter lets a request pass if the script raises; `envoy_on_request` therefore catches and refuses.

local FORM = "multipart/form-data"
local FIELDS = { data = true, body = true }
local MOST_BOUNDARY, MOST_HEAD = 70, 2048

local function read_boundary(value)
  local boundary = string.match(value, "^[ \t]*;[ \t]*[Bb][Oo][Uu][Nn][Dd][Aa][Rr][Yy]=(.*)$")
  if not boundary then return nil end
  boundary = string.match(boundary, '^"(.*)"$') or boundary
  if #boundary > MOST_BOUNDARY or not string.match(boundary, "^[%w'()+_,./:=?-]+$") then return nil end
  return boundary
end

-- One Content-Disposition with one of our names, at most one Content-Type, and no other header.
local function is_accepted_head(head)
  local seen = {}
  for line in string.gmatch(head, "(.-)\r\n") do
    local name, value = string.match(line, "^([%a-]+):[ \t]*(.*)$")
    if not name or string.find(value, "%c") then return false end
    name = string.lower(name)
    if seen[name] or (name ~= "content-disposition" and name ~= "content-type") then return false end
    seen[name] = value
  end
  local field, rest = string.match(seen["content-disposition"] or "", '^form%-data;[ ]?name="?(%a+)"?(.*)$')
  return field ~= nil and FIELDS[field] == true and (rest == "" or string.match(rest, "^;[ ]?filename%*?=") ~= nil)
end

local function take_part(bytes, boundary)
  local first, delimiter = "--" .. boundary .. "\r\n", "\r\n--" .. boundary
  if string.sub(bytes, 1, #first) ~= first then return nil end
  local head = string.match(string.sub(bytes, #first + 1, #first + MOST_HEAD), "^(.-\r\n)\r\n")
  if not head or not is_accepted_head(head) then return nil end
  local from = #first + #head + 3
  local close = string.find(bytes, delimiter, from, true)
  if not close then return nil end
  local rest = string.sub(bytes, close + #delimiter)
  if rest ~= "--" and rest ~= "--\r\n" then return nil end  -- a second field, or anything behind the last
  return string.sub(bytes, from, close - 1)
end

local function unwrap(headers, body)
  local boundary = read_boundary(string.sub(headers:get("content-type"), #FORM + 1))
  local part = boundary and body and take_part(body:getBytes(0, body:length()), boundary)
  if not part then return false end
  body:setBytes(part)
  headers:remove("transfer-encoding")
  headers:replace("content-length", tostring(#part))
  headers:replace("content-type", "application/octet-stream")
  return true
end

function envoy_on_request(handle)
  local kind = handle:headers():get("content-type")
  if string.sub(string.lower(kind or ""), 1, 9) ~= "multipart" then return end
  if handle:streamInfo():routeName() == "" then return end  -- nothing there: the router says so, without the body
  local body = handle:body()
  local finished, taken = pcall(unwrap, handle:headers(), body)  -- asked for anew: waiting for the body ends the first
  if not finished then
    handle:logErr("garrison: a form could not be read: " .. tostring(taken))
    handle:respond({ [":status"] = "500" }, "")
  elseif not taken then
    handle:respond({ [":status"] = "415" }, "")
  end
end
