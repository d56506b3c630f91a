-- Who asks, and may they: verified tokens and a verified certificate become one client, one verdict and one header.
-- identity.py renders this file into Envoy's configuration with tables in front, as texts (a script may hold few
-- constants, but long ones): SETS, CLIENTS, SUBJECTS, CERTIFICATES, REVOKED_KEYS, REVOKED_CERTIFICATES, BUDGETED,
-- MODEL_WAYS, DEFAULT_WAYS; and USES, ALGORITHMS, SCOPE_CLAIM, SCOPE_PREFIX, GUARDED.
-- jwt_authn has refused whatever token is not valid; the TLS listener, whatever certificate is not.
-- Envoy's Lua filter lets a request pass if the script raises; `envoy_on_request` therefore catches and refuses, and
-- Envoy's rbac filter behind it lets nothing pass that this script has not marked as allowed.

local TOKENS, OURS, MARKS = "envoy.filters.http.jwt_authn", "garrison", "garrison.budgets"
local KEY_HEADER, TOKEN_HEADER = "x-api-key", "authorization"
local CLIENT_HEADER, SCOPES_HEADER = "x-garrison-client", "x-garrison-scopes"
local KINDS = { "key", "oidc", "mtls" }
local MOST_NOTED = 100
local LATEST_S = 2 ^ 53  -- the largest number of all overflows where jwt_authn bounds how long a key may be valid
local NOTHING = {}

local function read_set(text)
  local set = {}
  for word in string.gmatch(text, "[^ ]+") do set[word] = true end
  return set
end

local function read_lines(text, read)
  local found = {}
  for name, value in string.gmatch(text, "([^\t\n]+)\t?([^\n]*)\n") do found[name] = read(value) end
  return found
end

local function itself(value) return value end

-- "key mtls+key" becomes a list of ways, each a list of the kinds that it needs.
local function read_ways(text)
  local ways = {}
  for name in string.gmatch(text, "[^ ]+") do
    local way = { name = name }
    for kind in string.gmatch(name, "[^+]+") do way[#way + 1] = kind end
    ways[#ways + 1] = way
  end
  return ways
end

local sets = read_lines(SETS, read_set)
local clients = read_lines(CLIENTS, function(number) return sets[number] end)
local subjects, certificates = read_lines(SUBJECTS, itself), read_lines(CERTIFICATES, itself)
local revoked_keys, revoked_certificates = read_lines(REVOKED_KEYS, itself), read_lines(REVOKED_CERTIFICATES, itself)
local budgeted = read_lines(BUDGETED, itself)  -- "queries", or "places" where requests in progress are counted, too
local model_ways, default_ways = read_lines(MODEL_WAYS, read_ways), read_ways(DEFAULT_WAYS)

local function list_has(list, wanted)
  if type(list) ~= "table" then return false end
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

local function words_have(words, wanted)
  return type(words) == "string" and string.find(" " .. words .. " ", " " .. wanted .. " ", 1, true) ~= nil
end

-- A key token: `client` is nil if the file of clients does not list whom it is for. Revoked: no identity at all.
local function read_key(claims)
  if type(claims.jti) ~= "string" or revoked_keys[claims.jti] then return nil end
  if claims.exp > LATEST_S then return nil end
  local scopes, client = claims.scopes, claims.sub
  return {
    client = clients[client] and client, claimed = client, id = claims.jti,
    has = function(scope) return list_has(scopes, scope) end,
  }
end

-- A token of the OIDC issuer; jwt_authn has no list of algorithms of its own.
local function read_token(claims, head)
  if not head or not ALGORITHMS[head.alg] then return nil end
  local words = claims[SCOPE_CLAIM]
  return {
    client = subjects[claims.sub], id = claims.jti,
    has = function(scope) return words_have(words, SCOPE_PREFIX .. scope) or list_has(words, SCOPE_PREFIX .. scope) end,
  }
end

local function everything() return true end

-- A certificate is checked in the handshake; a connection may last longer than it, or than its revocation takes. An
-- authority that checks hosts' names may let anybody write what looks like one as a URI: kinds are not mixed.
local function read_certificate(tls, now_s)
  if not tls:peerCertificateValidated() or tls:expirationPeerCertificate() <= now_s then return nil end
  local serial = string.gsub(string.lower(tls:serialNumberPeerCertificate()), "^0+", "")
  if revoked_certificates[serial] then return nil end
  local found, several = nil, false
  local function see(name, is_uri)
    if (string.find(name, "://", 1, true) ~= nil) ~= is_uri then return end
    local client = certificates[name]
    several = several or (client ~= nil and found ~= nil and client ~= found)
    found = found or client
  end
  for _, name in ipairs(tls:uriSanPeerCertificate()) do see(name, true) end
  for _, name in ipairs(tls:dnsSansPeerCertificate()) do see(string.lower(name), false) end
  return { client = not several and found or nil, has = everything }
end

-- Say whether a header is there once at most, and take it out: no server behind has use for it.
local function take_out(headers, name)
  local count = headers:getNumValues(name)
  if count > 0 then headers:remove(name) end
  return count <= 1
end

-- Return what has been presented and verified, by kind; nil if anything presented counts no more.
local function read_caller(handle, info, noted)
  local headers, caller = handle:headers(), {}
  if USES.key and not take_out(headers, KEY_HEADER) then return nil end
  if USES.oidc and not take_out(headers, TOKEN_HEADER) then return nil end
  local verified = noted:get(TOKENS) or NOTHING
  if verified.key then
    caller.key = read_key(verified.key)
    if not caller.key then return nil end
  end
  if verified.oidc then
    caller.oidc = read_token(verified.oidc, verified.oidc_head)
    if not caller.oidc then return nil end
  end
  local tls = USES.mtls and info:downstreamSslConnection()
  if tls and tls:peerCertificatePresented() then
    caller.mtls = read_certificate(tls, handle:timestamp() / 1000)
    if not caller.mtls then return nil end
  end
  return caller
end

-- Return the one client that all of it belongs to; what belongs to nobody does not count. Two are none.
local function find_client(caller)
  local found
  for _, kind in ipairs(KINDS) do
    local client = caller[kind] and caller[kind].client
    if client then
      if found and found ~= client then return nil end
      found = client
    end
  end
  return found
end

-- Say whether all that a way needs is there, and whether all of it is this client's and allows the scope, if any.
local function try_way(way, caller, client, scope)
  local allowed = client ~= nil and (scope == nil or clients[client][scope] == true)
  for _, kind in ipairs(way) do
    local part = caller[kind]
    if not part then return false, false end
    allowed = allowed and part.client == client and (scope == nil or part.has(scope))
  end
  return true, allowed
end

-- Return the first way that allows it; without one, the status to refuse with.
local function find_way(model, caller, client, scope)
  local status = "401"
  for _, way in ipairs(model_ways[model] or default_ways) do
    local complete, allowed = try_way(way, caller, client, scope)
    if allowed then return way end
    if complete then status = "403" end
  end
  return nil, status
end

-- For the guard, which reads the model's name out of the message: all that the caller may do, at a route's verb if it
-- has one.
local function list_scopes(caller, client, verb)
  local found = {}
  local way, status = find_way("", caller, client, nil)
  for scope in pairs(client and clients[client] or NOTHING) do
    local model, its_verb = string.match(scope, "^(.-):(.*)$")
    if verb == "" or verb == its_verb then
      local its_way, its_status = find_way(model, caller, client, scope)
      way = way or its_way
      if its_way then found[#found + 1] = scope elseif its_status == "403" then status = "403" end
    end
  end
  if #found == 0 then return nil, status or "403" end
  table.sort(found)
  return way, nil, table.concat(found, " ")
end

local function is_guarded(path)
  for _, prefix in ipairs(GUARDED) do
    if string.sub(path, 1, #prefix) == prefix then return true end
  end
  return false
end

-- Write down who asks for what, for the filters behind, the limits and the access log.
local function note(noted, name, value)
  if type(value) ~= "string" or value == "" then return end
  noted:set(OURS, name, #value > MOST_NOTED and string.sub(value, 1, MOST_NOTED) or value)
end

-- Envoy's rate limit filter asks the budget service about what is marked: at its beginning, and at its end.
local function mark_budget(noted, client)
  local counted = budgeted[client]
  if counted then noted:set(MARKS, "begin", "yes") end
  if counted == "places" then noted:set(MARKS, "end", "yes") end
end

local function allow(noted) noted:set(OURS, "allowed", "yes") end

-- Find out who asks, and whether by one of the ways and with the scope that the route needs: a model's, or any at all
-- (`scopes`, for the guard). Without a route, whoever is listed may hear that there is nothing.
local function identify(handle, noted, needs, model, verb)
  local caller = read_caller(handle, handle:streamInfo(), noted)
  if not caller then return "401" end
  local client, token = find_client(caller), caller.key or caller.oidc or NOTHING
  note(noted, "client", client or token.claimed)
  note(noted, "key_id", token.id)
  note(noted, "model", model)
  note(noted, "verb", verb)
  local way, status, scopes
  if needs == "scopes" then
    way, status, scopes = list_scopes(caller, client, verb)
  else
    way, status = find_way(model, caller, client, needs == "scope" and model .. ":" .. verb or nil)
  end
  if not way then return status end
  note(noted, "way", way.name)
  mark_budget(noted, client)
  handle:headers():replace(CLIENT_HEADER, client)
  if scopes then handle:headers():replace(SCOPES_HEADER, scopes) end
  return allow(noted)
end

-- Write down who looks for a way to manage a server, if that can be told. It decides nothing: there is none.
local function note_intruder(handle, info, noted)
  local caller = read_caller(handle, info, noted)
  if not caller then return end
  note(noted, "client", find_client(caller))
  note(noted, "key_id", (caller.key or caller.oidc or NOTHING).id)
end

-- Return the status to refuse with, or nil.
local function check_request(handle)
  local route, info = handle:metadata(), handle:streamInfo()
  local needs, noted = route:get("needs"), info:dynamicMetadata()
  if needs == "nothing" then return allow(noted) end
  if needs == nil then
    if info:routeName() ~= "" then return "403" end  -- a route that says nothing is a mistake of ours
    if not is_guarded(handle:headers():get(":path") or "") then
      if route:get("kind") == "management" then note_intruder(handle, info, noted) end
      return allow(noted)  -- to the router, which says 404
    end
  end
  return identify(handle, noted, needs, route:get("model") or "", route:get("verb") or "")
end

function envoy_on_request(handle)
  local finished, status = pcall(check_request, handle)
  if not finished then
    handle:logErr("garrison: the identity check failed: " .. tostring(status))
    handle:respond({ [":status"] = "500" }, "")
  elseif status then
    handle:respond({ [":status"] = status }, "")
  end
end
