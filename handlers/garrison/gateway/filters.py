"""The list of filters that every request passes, in order, and each filter's configuration.

    harden              the security headers of every answer, whoever gives it
    cross origins       where origins are named: preflights, and what browsers need to hand an answer on
    authenticate   401  no token that is not valid: signed for this gateway, in force now
    identify       403  a client that is listed, by an accepted way, with a scope that its token and its entry name
    backstop       403  only what `identify` has let through
    check headers  415  accepted content types, no compression; only listed headers go on, in both directions
    slow down      503  who floods, with bad input or over a limit, waits for a turn; 503 if none is near
    limit requests 429  one bucket per client, and per client and model where its entry says so
    bound body     413  as large as the model's contract allows
    unwrap form    415  the one field of a form becomes the body
    limit bytes    429  likewise
    count budgets  429  queries per day, requests at the same time; 503 if they cannot be counted
    route          404  to the model server, or nowhere

A refusal by one filter means that none of the later ones sees the request. What they stand on: Envoy's jwt_authn, rbac,
local_ratelimit, ratelimit, lua, fault, buffer, cors, header_mutation and router, all stable and meant for untrusted
clients.
"""

from importlib import resources
from typing import Any

from garrison.gateway.cors import render_cors
from garrison.gateway.counters import COUNTERS
from garrison.gateway.identity import NAMESPACE, render_tables
from garrison.gateway.limits import count_budgets, limit_bytes, limit_requests
from garrison.gateway.replies import render_lua_replies
from garrison.gateway.routes import guarded
from garrison.gateway.routes.table import WAIT_HEADER
from garrison.gateway.security_headers import render_security_headers
from garrison.gateway.source import GatewaySource
from garrison.gateway.tokens import render_look, render_providers, render_rules


def render_filters(source: GatewaySource) -> list[dict[str, Any]]:
    """Render the filters in the order in which a request meets them."""
    return [
        render_security_headers(source.settings),
        *([render_cors()] if source.settings.cors_origins else []),
        authenticate(source),
        identify(source),
        backstop(),
        check_headers(),
        slow_down(),
        *limit_requests(source.clients),
        bound_body(),
        unwrap_form(),
        *limit_bytes(source.clients),
        count_budgets(),
        route(),
    ]


def authenticate(source: GatewaySource) -> dict[str, Any]:
    """Verify every token that is presented at a model's paths, of the kinds that some way accepts."""
    providers = render_providers(source)
    config = {
        "providers": providers,
        "rules": [*render_rules(tuple(providers), guarded(source.protocols)), *render_look(tuple(providers))],
        "strip_failure_response": True,
    }
    return _filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", config)


def identify(source: GatewaySource) -> dict[str, Any]:
    """Find out which client asks, and whether it may; say so to the filters behind and in one header."""
    return _script("identity", render_tables(source))


def backstop() -> dict[str, Any]:
    """Let nothing pass that `identify` has not allowed: Envoy would let pass a request whose script fails."""
    allowed = {"filter": NAMESPACE, "path": [{"key": "allowed"}], "value": {"string_match": {"exact": "yes"}}}
    principal = {"sourced_metadata": {"metadata_matcher": allowed}}
    policy = {"permissions": [{"any": True}], "principals": [principal]}
    return _filter("rbac", "rbac.v3.RBAC", {"rules": {"action": "ALLOW", "policies": {"identified": policy}}})


def check_headers() -> dict[str, Any]:
    """Pass listed headers only, refuse compression, and replace failures that are not worded for clients."""
    before = render_lua_replies() + f'local WAIT_HEADER = "{WAIT_HEADER}"\n'
    return _script("headers", before, stat_prefix=COUNTERS)


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


def _script(name: str, before: str = "", *, stat_prefix: str = "") -> dict[str, Any]:
    source = resources.files("garrison.gateway").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    config = {
        "default_source_code": {"inline_string": before + source},
        **({"stat_prefix": stat_prefix} if stat_prefix else {}),
        "clear_route_cache": False,  # the route that was authorised is the route that is taken
    }
    return {**_filter("lua", "lua.v3.Lua", config), "name": f"garrison.{name}"}


def _filter(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    type_url = f"type.googleapis.com/envoy.extensions.filters.http.{kind}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": type_url, **config}}
