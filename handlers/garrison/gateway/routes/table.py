"""Write Envoy's route table: exact methods and paths, no query strings, each with its bounds.

Every route notes what it is about (`garrison` for the access log, `envoy.filters.http.lua` for the scripts): model,
verb, protocol, and its kind, by which headers.lua knows what may pass and what is to be counted.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from garrison.contract import Contract
from garrison.gateway.cors import CORS, render_policy
from garrison.gateway.routes import Endpoint, choose_protocols, find_endpoints, guarded
from garrison.gateway.routes.endpoint import GATEWAY, GUARD_GRPC, GUARD_REST
from garrison.gateway.routes.management import PATHS
from garrison.gateway.settings import GUARD_PROTOCOLS, TFSERVING_REST, GatewaySettings

WAIT_HEADER = "x-envoy-fault-delay-request"  # set by headers.lua for the fault filter, and of no use behind it
# The choice among servers is by lot, and a dead one, which has the fewest requests, is drawn more often than not.
OTHER_SERVER_ATTEMPTS = 50
NOWHERE = "nowhere"  # a cluster that does not exist
MOST_ANSWER_BYTES = 2**20  # of the gateway's own: a table of 10,000 columns is described by their number
PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
PREVIOUS_HOSTS_TYPE = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
BUFFER_TYPE = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute"
REST, GUARD, GRPC, MANAGEMENT, PROBE = "rest", "guard", "grpc", "management", "probe"
KINDS = {GUARD_REST: GUARD, GUARD_GRPC: GRPC}  # of an endpoint, by who answers; all others are REST


def render_routes(settings: GatewaySettings, contracts: Sequence[Contract]) -> dict[str, Any]:
    """Render the route table: what exists, then what is noted when somebody looks for it."""
    protocols = choose_protocols(settings.protocols, contracts)
    endpoints = find_endpoints(protocols, contracts)
    cors = render_policy(settings)
    routes = [_render(endpoint, method, cors) for endpoint in endpoints for method in endpoint.methods]
    routes += [_render_management(path) for path in PATHS]
    routes += _render_elsewhere(protocols, cors)
    return {
        "name": "garrison",
        "max_direct_response_body_size_bytes": MOST_ANSWER_BYTES,
        "validate_clusters": False,  # one is not there on purpose
        "virtual_hosts": [
            {"name": "garrison", "domains": ["*"], "routes": routes, "request_headers_to_remove": [WAIT_HEADER]}
        ],
    }


def _render(endpoint: Endpoint, method: str, cors: dict[str, Any] | None) -> dict[str, Any]:
    filters: dict[str, Any] = {}
    if cors and not endpoint.is_grpc and endpoint.upstream != GATEWAY:  # Envoy's filter passes over the others
        filters[CORS] = cors
    if endpoint.upstream != GATEWAY:  # an open one, too: no server gets bytes from just anybody
        limit = {"max_request_bytes": max(1, endpoint.max_body_bytes)}
        filters["envoy.filters.http.buffer"] = {"@type": BUFFER_TYPE, "buffer": limit}
    kind = KINDS.get(endpoint.upstream, REST)
    return {
        "name": _name(endpoint, method),
        "match": _match(method, endpoint),
        "metadata": _describe(kind, endpoint),
        **_render_action(endpoint),
        "typed_per_filter_config": filters,
    }


def _name(endpoint: Endpoint, method: str) -> str:
    if not endpoint.is_guarded:
        return f"open {endpoint.path} {method}"
    return f"{endpoint.verb} {endpoint.model or endpoint.path}"


def _match(method: str, endpoint: Endpoint) -> dict[str, Any]:
    """Match one method and one path; `:path` includes the query string, so any query is no match."""
    headers = [
        {"name": ":method", "string_match": {"exact": method}},
        {"name": ":path", "string_match": {"exact": endpoint.path}},
    ]
    return {"path": endpoint.path, "headers": headers}


def _describe(kind: str, endpoint: Endpoint | None = None) -> dict[str, Any]:
    """Return a route's metadata. Without `needs` nobody passes a route that has a name; see identity.lua."""
    log: dict[str, Any] = {"kind": kind, "model": "", "verb": "", "api": ""}
    script = log
    if endpoint is not None:
        log = {**log, "model": endpoint.model, "verb": endpoint.verb, "api": endpoint.protocol}
        script = {**log, "needs": endpoint.needs}
        if endpoint.upstream_path:
            log["path"] = endpoint.path
        if endpoint.answer and endpoint.upstream != GATEWAY:
            script["answer"] = endpoint.answer
    return {"filter_metadata": {"garrison": log, "envoy.filters.http.lua": script}}


def _render_action(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.upstream == GATEWAY:
        return {"direct_response": {"status": 200, "body": {"inline_string": endpoint.answer}}}
    timeout = f"{endpoint.timeout_s}s"
    action: dict[str, Any] = {
        "cluster": endpoint.upstream,
        "timeout": timeout,
        "idle_timeout": f"{endpoint.timeout_s + 1}s",  # nothing moves while a model works: that is not idleness
        "host_rewrite_literal": "localhost",  # what the client calls us is no business of the server
        "retry_policy": _retry(),
    }
    if endpoint.upstream_path:
        action["prefix_rewrite"] = endpoint.upstream_path  # the match is of the whole path, and so is this
    if endpoint.is_grpc:  # a client may ask for less time than the model has, never for more
        action["max_stream_duration"] = {"max_stream_duration": timeout, "grpc_timeout_header_max": timeout}
    return {"route": action}


def _render_management(path: str) -> dict[str, Any]:
    """Render nothing, at a path that is noted, in any case and with whatever comes behind it."""
    return {
        "match": {"path_separated_prefix": path, "case_sensitive": False},
        "metadata": _describe(MANAGEMENT),
        "direct_response": {"status": 404},
    }


def _render_elsewhere(protocols: Sequence[str], cors: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Render nothing, for all other paths below the guarded prefixes, where browsers may ask.

    A preflight carries no key. So it gets the same answer for a model that is there and for one that is not, and so
    does the request without a key that would come after it. Envoy's filter looks only at routes that lead to a
    cluster: this one is never there.
    """
    if cors is None:
        return
    action = {"cluster": NOWHERE, "cluster_not_found_response_code": "NOT_FOUND", "timeout": "1s"}
    rest = [protocol for protocol in protocols if protocol not in GUARD_PROTOCOLS or protocol == TFSERVING_REST]
    for prefix in guarded(rest):
        yield {
            "match": {"prefix": prefix},
            "metadata": _describe(PROBE),
            "route": action,
            "typed_per_filter_config": {CORS: cors},
        }


def _retry() -> dict[str, Any]:
    """Try another server, once, if the first took no connection; what was sent is never sent again."""
    other = {"name": PREVIOUS_HOSTS, "typed_config": {"@type": PREVIOUS_HOSTS_TYPE}}
    return {
        "retry_on": "connect-failure",
        "num_retries": 1,
        "retry_host_predicate": [other],
        "host_selection_retry_max_attempts": OTHER_SERVER_ATTEMPTS,
    }
