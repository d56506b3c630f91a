"""What is behind the gateway: the model servers and guards, which are asked once a second whether they take requests.

Two clusters of the same servers. `inference` takes predictions; a server gets them while its `ready.sock` says at
`/serving` that it takes them. `readiness` answers the health route; there a server counts while each of its models has
a worker. Where none is left, the gateway itself says 503 at once: no request waits for a server that may come back.

Guards have a cluster for each way they are spoken to: `guard-rest`, and `guard-grpc` over HTTP/2. Without a model
server they answer the health route too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.contract import Contract, count_room
from garrison.gateway.routes import select_contracts
from garrison.gateway.settings import GUARD_PROTOCOLS, TFSERVING_GRPC, TFSERVING_REST, TORCHSERVE_GRPC
from garrison.sockets import GUARD_GRPC, GUARD_REST, INFERENCE, READY, SERVING_PATH, WATCH

BUFFER_LIMIT_BYTES = 32 * 1024  # per connection, from the edge guide; the model's body limit is set on its route
CONNECT_TIMEOUT_S = 1  # a unix socket answers at once or not at all
UPSTREAM_IDLE_S = 60
HEALTH_INTERVAL_S = 1
HEALTH_TIMEOUT_S = 2
HEALTH_FAILURES = 3  # without an answer; a 503 counts at once
HEALTH_ROOM = 16  # requests of the health route at a time, for each server
READY_PATH = "/"
HTTP_TYPE = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True)
class ServerSockets:
    """Where one model server takes requests, where it says whether it does, and where its metrics are."""

    inference: Path
    readiness: Path
    watch: Path

    @classmethod
    def in_directory(cls, directory: Path) -> "ServerSockets":
        """Return the sockets that a server makes in a directory."""
        return cls(directory / INFERENCE, directory / READY, directory / WATCH)


@dataclass(frozen=True)
class GuardSockets:
    """Where one guard takes REST and gRPC, where it says whether it does, and where its metrics are."""

    rest: Path
    grpc: Path
    readiness: Path
    watch: Path

    @classmethod
    def in_directory(cls, directory: Path) -> "GuardSockets":
        """Return the sockets that a guard makes in a directory."""
        return cls(directory / GUARD_REST, directory / GUARD_GRPC, directory / READY, directory / WATCH)


def render_clusters(
    servers: Sequence[ServerSockets],
    contracts: Sequence[Contract],
    guards: Sequence[GuardSockets],
    protocols: Sequence[str],
) -> list[dict[str, Any]]:
    """Render the clusters that the protocols need, with room for what all servers alike have room for together."""
    clusters = []
    asked = [guard.readiness for guard in guards]
    direct = [protocol for protocol in protocols if protocol not in GUARD_PROTOCOLS]
    if direct:
        paths = [(server.inference, server.readiness) for server in servers]
        room = count_room(select_contracts(direct, contracts)) * len(paths)
        clusters.append(_render_cluster("inference", paths, SERVING_PATH, room))
        asked = [server.readiness for server in servers]
    health = [(path, path) for path in asked]
    clusters.append(_render_cluster("readiness", health, READY_PATH, HEALTH_ROOM * len(health)))
    if TFSERVING_REST in protocols:
        paths = [(guard.rest, guard.readiness) for guard in guards]
        room = count_room(select_contracts((TFSERVING_REST,), contracts)) * len(paths)
        clusters.append(_render_cluster("guard-rest", paths, SERVING_PATH, room))
    by_grpc = [protocol for protocol in protocols if protocol in (TFSERVING_GRPC, TORCHSERVE_GRPC)]
    if by_grpc:
        paths = [(guard.grpc, guard.readiness) for guard in guards]
        room = count_room(select_contracts(by_grpc, contracts)) * len(paths)
        clusters.append(_render_cluster("guard-grpc", paths, SERVING_PATH, room, grpc=True))
    return clusters


def _render_cluster(
    name: str, paths: Sequence[tuple[Path, Path]], health_path: str, room: int, *, grpc: bool = False
) -> dict[str, Any]:
    """Render servers behind unix sockets: HTTP/1.1, or HTTP/2 for gRPC; never more than they have room for."""
    http = {
        "@type": HTTP_TYPE,
        "common_http_protocol_options": {"idle_timeout": f"{UPSTREAM_IDLE_S}s"},
        "explicit_http_config": {"http2_protocol_options" if grpc else "http_protocol_options": {}},
    }
    threshold = {"max_connections": room, "max_pending_requests": room, "max_requests": room, "max_retries": room}
    endpoints = [_render_endpoint(*pair) for pair in paths]
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT_BYTES,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "health_checks": [_render_health_check(health_path)],
        # Envoy would send requests to servers that say no, if too many of them do.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [threshold]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
    }


def _render_endpoint(path: Path, readiness: Path) -> dict[str, Any]:
    health = {"address": {"pipe": {"path": str(readiness)}}}
    return {"endpoint": {"address": {"pipe": {"path": str(path)}}, "health_check_config": health}}


def _render_health_check(path: str) -> dict[str, Any]:
    return {
        "interval": f"{HEALTH_INTERVAL_S}s",
        "no_traffic_interval": f"{HEALTH_INTERVAL_S}s",  # a minute by default, until the first request came
        "timeout": f"{HEALTH_TIMEOUT_S}s",
        "unhealthy_threshold": HEALTH_FAILURES,
        "healthy_threshold": 1,
        # Who was asked last may still be there when another server has taken the socket's name.
        "reuse_connection": False,
        "http_health_check": {"host": "localhost", "path": path, "codec_client_type": "HTTP1"},
    }
