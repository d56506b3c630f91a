"""The metrics' listener: plain HTTP at an address of its own, for Prometheus; four kinds of pages, all else is 404.

    GET /metrics            what Envoy counts, of its admin interface this one page
    GET /metrics/gateway    what the gateway's launcher counts and knows: answers by model and by client, refusals
    GET /metrics/servers/N  what the Nth model server's workers count (from 0, in the order of --sockets)
    GET /metrics/guards/N   what the Nth process of the guard counts (from 0, in the order of --guard)

Nobody is asked who he is: it is for a network that only Prometheus reaches, and by default for this machine alone. It
shares nothing with the clients' listener, has few connections, and is not counted against theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.gateway.connection import TYPE
from garrison.gateway.settings import MetricsListener
from garrison.gateway.upstreams import BUFFER_LIMIT_BYTES, CONNECT_TIMEOUT_S, GuardSockets, ServerSockets
from garrison.sockets import GATEWAY_WATCH

NAME = "metrics"
PATH, SERVERS_PATH, GUARDS_PATH = "/metrics", "/metrics/servers/", "/metrics/guards/"
GATEWAY_PATH = "/metrics/gateway"
ENVOY_PAGE = "/stats/prometheus"
MAX_CONNECTIONS = 16
# In what Envoy calls its runtime.
CONNECTION_LIMIT = f"envoy.resource_limits.listener.{NAME}.connection_limit"
_STEP_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 10
_IDLE_S = 75  # Prometheus asks again on the same connection
_HEADERS_KB, _HEADERS = 8, 30
_ROUTER_TYPE = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


@dataclass(frozen=True)
class _Watched:
    """One page that is not Envoy's own: its path, the cluster behind it, and that one's socket."""

    path: str
    cluster: str
    socket: Path


def render_metrics_listener(
    metrics: MetricsListener, admin: Path, servers: Sequence[ServerSockets], guards: Sequence[GuardSockets]
) -> dict[str, Any]:
    """Render the listener."""
    manager = {
        "@type": TYPE,
        "stat_prefix": NAME,
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "server_header_transformation": "PASS_THROUGH",
        "max_request_headers_kb": _HEADERS_KB,
        "request_headers_timeout": f"{_STEP_TIMEOUT_S}s",
        "request_timeout": f"{_STEP_TIMEOUT_S}s",
        "stream_idle_timeout": f"{_ANSWER_TIMEOUT_S}s",
        "common_http_protocol_options": {
            "idle_timeout": f"{_IDLE_S}s",
            "max_headers_count": _HEADERS,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _ROUTER_TYPE, "suppress_envoy_headers": True},
            }
        ],
        "route_config": _render_routes(_list_watched(admin, servers, guards)),
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "name": NAME,
        "address": {"socket_address": {"address": metrics.address, "port_value": metrics.port}},
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT_BYTES,
        "enable_reuse_port": False,
        "ignore_global_conn_limit": True,  # clients who take all connections must not blind who watches
        "filter_chains": [chain],
    }


def render_metrics_clusters(
    admin: Path, servers: Sequence[ServerSockets], guards: Sequence[GuardSockets]
) -> list[dict[str, Any]]:
    """Render what is behind the listener: Envoy itself, and each server's and each guard's socket for metrics."""
    watched = [(one.cluster, one.socket) for one in _list_watched(admin, servers, guards)]
    return [_render_cluster(name, path) for name, path in (("metrics envoy", admin), *watched)]


def _list_watched(admin: Path, servers: Sequence[ServerSockets], guards: Sequence[GuardSockets]) -> list[_Watched]:
    found = [_Watched(GATEWAY_PATH, "metrics gateway", admin.with_name(GATEWAY_WATCH))]
    found += [_Watched(f"{SERVERS_PATH}{n}", f"metrics {n}", server.watch) for n, server in enumerate(servers)]
    return found + [_Watched(f"{GUARDS_PATH}{n}", f"metrics guard {n}", guard.watch) for n, guard in enumerate(guards)]


def _render_routes(watched: Sequence[_Watched]) -> dict[str, Any]:
    routes = [_render_route(PATH, "metrics envoy", ENVOY_PAGE)]
    routes += [_render_route(one.path, one.cluster, PATH) for one in watched]
    host = {"name": NAME, "domains": ["*"], "routes": routes}
    return {"name": NAME, "virtual_hosts": [host], "response_headers_to_remove": ["server", "x-request-id"]}


def _render_route(path: str, cluster: str, page: str) -> dict[str, Any]:
    """Match GET, this path without a query, and no body."""
    exact = {":method": "GET", ":path": path}
    headers: list[dict[str, Any]] = [{"name": name, "string_match": {"exact": value}} for name, value in exact.items()]
    headers += [
        {"name": name, "present_match": True, "invert_match": True} for name in ("content-length", "transfer-encoding")
    ]
    return {
        "match": {"path": path, "headers": headers},
        "route": {
            "cluster": cluster,
            "prefix_rewrite": page,
            "timeout": f"{_ANSWER_TIMEOUT_S}s",
            "host_rewrite_literal": "localhost",
        },
    }


def _render_cluster(name: str, path: Path) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    threshold = {"max_connections": MAX_CONNECTIONS, "max_pending_requests": MAX_CONNECTIONS, "max_retries": 0}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT_BYTES,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [threshold]},
    }
