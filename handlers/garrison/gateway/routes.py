"""The only paths that exist: one or two per admitted model, and the readiness check. Everything else is 404."""

from collections.abc import Sequence
from typing import Any

from garrison.contract import Contract

PREDICTIONS = "/predictions/"
EXPLANATIONS = "/explanations/"  # TorchServe hands it to the same worker, with the header `explain: True`
GUARDED = (PREDICTIONS, EXPLANATIONS)  # nothing below these is told without a key, not even that it is not there
METHODS = ("POST", "PUT")  # TorchServe takes both, and `curl -T` sends the second
HEALTH = "/healthz"
SCOPE, SCOPES, NOTHING = "scope", "scopes", "nothing"  # what a caller needs for a route
WAIT_HEADER = "x-envoy-fault-delay-request"  # set by headers.lua for the fault filter, and of no use behind it
TIMEOUT_MARGIN_S = 1  # the model server's own timeout comes first and says more in its log
HEALTH_TIMEOUT_S = 2
# The choice among servers is by lot, and a dead one, which has the fewest requests, is drawn more often than not.
OTHER_SERVER_ATTEMPTS = 50
PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
PREVIOUS_HOSTS_TYPE = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
BUFFER_TYPE = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute"


def model_paths(contract: Contract) -> tuple[str, ...]:
    """Return the paths at which a model answers: predictions first, then explanations if its contract has any."""
    prefixes = GUARDED if contract.explanations is not None else (PREDICTIONS,)
    return tuple(f"{prefix}{contract.model}" for prefix in prefixes)


def describe_need(model: str = "", verb: str = "", needs: str = SCOPE) -> dict[str, Any]:
    """Return a route's metadata: whose scope a caller needs for it. A route without it lets nobody pass.

    `SCOPE` is that of a model and a verb. `SCOPES` is any scope at all: the model's name is in the message, and the
    guard, which reads it, gets all scopes in the header x-garrison-scopes, `MODEL:VERB MODEL:VERB`; those of one verb,
    if the route has a verb. `NOTHING` is for routes that are open to strangers.
    """
    need = {"needs": needs, "model": model, "verb": verb}
    return {"filter_metadata": {"garrison": {"model": model}, "garrison.identity": need}}


def render_routes(contracts: Sequence[Contract]) -> dict[str, Any]:
    """Render the route table: exact paths and methods, no query strings."""
    routes = [
        _render_model(contract, method, path)
        for contract in contracts
        for path in model_paths(contract)
        for method in METHODS
    ]
    routes += [_render_health(method) for method in ("GET", "HEAD")]
    return {
        "name": "garrison",
        "virtual_hosts": [
            {"name": "garrison", "domains": ["*"], "routes": routes, "request_headers_to_remove": [WAIT_HEADER]}
        ],
    }


def _render_model(contract: Contract, method: str, path: str) -> dict[str, Any]:
    timeout_s = contract.workers.timeout_s + TIMEOUT_MARGIN_S
    return {
        "name": f"{'explain' if path.startswith(EXPLANATIONS) else 'predict'} {contract.model}",
        "match": _match(method, path),
        "metadata": describe_need(contract.model, "explain" if path.startswith(EXPLANATIONS) else "predict"),
        "route": _action("inference", timeout_s),
        "typed_per_filter_config": {
            "envoy.filters.http.buffer": {
                "@type": BUFFER_TYPE,
                "buffer": {"max_request_bytes": contract.max_body_bytes},
            }
        },
    }


def _render_health(method: str) -> dict[str, Any]:
    return {
        "name": f"health {method}",
        "match": _match(method, HEALTH),
        "metadata": describe_need(needs=NOTHING),
        "route": _action("readiness", HEALTH_TIMEOUT_S),
    }


def _match(method: str, path: str) -> dict[str, Any]:
    """Match one method and one path; `:path` includes the query string, so any query is no match."""
    headers = [
        {"name": ":method", "string_match": {"exact": method}},
        {"name": ":path", "string_match": {"exact": path}},
    ]
    return {"path": path, "headers": headers}


def _action(cluster: str, timeout_s: int) -> dict[str, Any]:
    return {
        "cluster": cluster,
        "timeout": f"{timeout_s}s",
        "idle_timeout": f"{timeout_s + 1}s",  # nothing moves while a model works: that is not idleness
        "host_rewrite_literal": "localhost",  # what the client calls us is no business of the server
        "retry_policy": _retry(),
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
