"""The list of filters that every request passes, in order, and each filter's configuration.

    authenticate   401  a key that we signed, for this gateway, in force now
    authorise      403  a client that is listed, a model that both its key and its entry name
    check headers  415  accepted content types, no compression; only listed headers go on, in both directions
    slow down      503  who floods, with bad input or over a limit, waits for a turn; 503 if none is near
    limit rate     429  one bucket per client
    bound body     413  as large as the model's contract allows
    unwrap form    415  the one field of a form becomes the body
    route          404  to the model server, or nowhere

A refusal by one filter means that none of the later ones sees the request. What they stand on: Envoy's jwt_authn, rbac,
local_ratelimit, lua, fault, buffer and router, all stable and meant for untrusted clients.
"""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from garrison.contract import Contract
from garrison.gateway.clients import Client
from garrison.gateway.keys import AUDIENCE, ISSUER, MAX_LIFETIME
from garrison.gateway.replies import render_lua_replies
from garrison.gateway.routes import GUARDED, WAIT_HEADER, model_paths
from garrison.gateway.source import GatewaySource

KEY_HEADER = "x-api-key"
CLIENT_HEADER = "x-garrison-client"
CLOCK_SKEW_S = 5  # Envoy's default of 60 s would keep an expired key alive for a minute
KEY_CACHE_SIZE = 1000
JWT_METADATA = "envoy.filters.http.jwt_authn"


def render_filters(source: GatewaySource) -> list[dict[str, Any]]:
    """Render the filters in the order in which a request meets them."""
    return [
        authenticate(source.verification.jwks),
        authorise(source.clients, source.contracts),
        check_headers(),
        slow_down(),
        limit_rate(source.clients),
        bound_body(),
        unwrap_form(),
        route(),
    ]


def authenticate(jwks: dict[str, Any]) -> dict[str, Any]:
    """Verify the key's signature, issuer, audience and dates for everything below a model's paths."""
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "from_headers": [{"name": KEY_HEADER}],  # here only: not in Authorization, not in the query string
        "require_expiration": True,
        "max_lifetime": f"{int(MAX_LIFETIME.total_seconds())}s",
        "clock_skew_seconds": CLOCK_SKEW_S,
        "forward": False,  # a model server that is broken into must not collect keys
        "claim_to_headers": [{"header_name": CLIENT_HEADER, "claim_name": "sub"}],
        "payload_in_metadata": "payload",
        "jwt_cache_config": {"jwt_cache_size": KEY_CACHE_SIZE},  # verified once; its dates are checked every time
    }
    rules = [{"match": {"prefix": prefix}, "requires": {"provider_name": ISSUER}} for prefix in GUARDED]
    config = {"providers": {ISSUER: provider}, "rules": rules, "strip_failure_response": True}
    return _filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", config)


def authorise(clients: Sequence[Client], contracts: Sequence[Contract]) -> dict[str, Any]:
    """Allow a model to listed clients whose entry and whose key both name it; what is not allowed is refused.

    A path beside the models', such as that of explanations which a contract does not have, lets listed clients on to
    the router, which answers 404.
    """
    policies = {"elsewhere": {"permissions": [{"not_rule": _guarded()}], "principals": [{"any": True}]}}
    if clients:
        policies["no model"] = {
            "permissions": [_no_model(contracts)],
            "principals": [_claims(sub=client.name) for client in clients],
        }
    for contract in contracts:
        allowed = [client for client in clients if contract.model in {model.name for model in client.models}]
        if allowed:
            policies[f"model {contract.model}"] = {
                "permissions": [_path_exact(path) for path in model_paths(contract)],  # any of them
                "principals": [_claims(sub=client.name, models=contract.model) for client in allowed],
            }
    return _filter("rbac", "rbac.v3.RBAC", {"rules": {"action": "ALLOW", "policies": policies}})


def limit_rate(clients: Sequence[Client]) -> dict[str, Any]:
    """Give each listed client its own bucket of requests.

    The clients are enumerated: with wildcard descriptors Envoy keeps 20 buckets, and a 21st client would hand an
    evicted one a full bucket again. Enabled and enforced are written out, as both are 0 % by default.
    """
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    client = {"key": JWT_METADATA, "path": [{"key": "payload"}, {"key": "sub"}]}
    action = {"metadata": {"descriptor_key": "client", "metadata_key": client, "source": "DYNAMIC"}}
    config: dict[str, Any] = {"stat_prefix": "garrison", "filter_enabled": always, "filter_enforced": always}
    if clients:
        config["rate_limits"] = [{"actions": [action]}]
        config["descriptors"] = [_bucket(client) for client in clients]
    return _filter("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", config)


def check_headers() -> dict[str, Any]:
    """Pass listed headers only, refuse compression, and replace failures that are not worded for clients."""
    return _script("headers", render_lua_replies() + f'local WAIT_HEADER = "{WAIT_HEADER}"\n')


def slow_down() -> dict[str, Any]:
    """Let a request wait as many milliseconds as headers.lua has written into it."""
    delay = {"header_delay": {}, "percentage": {"numerator": 100, "denominator": "HUNDRED"}}
    return _filter("fault", "fault.v3.HTTPFault", {"delay": delay})


def bound_body() -> dict[str, Any]:
    """Hold a request back until its body is there, up to the limit that each model's route sets.

    Off where no route turns it on, so that requests to nowhere get their 404 without being read.
    """
    return {**_filter("buffer", "buffer.v3.Buffer", {"max_request_bytes": 1}), "disabled": True}


def unwrap_form() -> dict[str, Any]:
    """Replace a form by the one input in it: the model server's own parser of forms is never reached."""
    return _script("forms")


def route() -> dict[str, Any]:
    """Send the request on, without telling either side about Envoy."""
    return _filter("router", "router.v3.Router", {"suppress_envoy_headers": True})


def _script(name: str, before: str = "") -> dict[str, Any]:
    source = resources.files("garrison.gateway").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    config = {
        "default_source_code": {"inline_string": before + source},
        "clear_route_cache": False,  # the route that was authorised is the route that is taken
    }
    return {**_filter("lua", "lua.v3.Lua", config), "name": f"garrison.{name}"}


def _filter(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    type_url = f"type.googleapis.com/envoy.extensions.filters.http.{kind}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": type_url, **config}}


def _guarded() -> dict[str, Any]:
    return {"or_rules": {"rules": [{"url_path": {"path": {"prefix": prefix}}} for prefix in GUARDED]}}


def _path_exact(path: str) -> dict[str, Any]:
    return {"url_path": {"path": {"exact": path}}}


def _no_model(contracts: Sequence[Contract]) -> dict[str, Any]:
    others = [{"not_rule": _path_exact(path)} for contract in contracts for path in model_paths(contract)]
    return {"and_rules": {"rules": [_guarded(), *others]}}


def _claims(sub: str, models: str = "") -> dict[str, Any]:
    ids = [_claim("sub", {"string_match": {"exact": sub}})]
    if models:
        ids.append(_claim("models", {"list_match": {"one_of": {"string_match": {"exact": models}}}}))
    return {"and_ids": {"ids": ids}}


def _claim(name: str, value: dict[str, Any]) -> dict[str, Any]:
    matcher = {"filter": JWT_METADATA, "path": [{"key": "payload"}, {"key": name}], "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher}}


def _bucket(client: Client) -> dict[str, Any]:
    limits = client.limits
    bucket = {"max_tokens": limits.burst, "tokens_per_fill": limits.requests_per_second, "fill_interval": "1s"}
    return {"entries": [{"key": "client", "value": client.name}], "token_bucket": bucket}
