"""Turn the operator's files, the contracts and the public keys into Envoy's configuration.

Rendering is pure: the same input gives the same bytes. The configuration holds no secret, only the path of the TLS key.
The admin interface is a unix socket that only its owner can open, and answers only what draining and watching need.
"""

from pathlib import Path
from typing import Any

from garrison.errors import ConfigError
from garrison.gateway import admin
from garrison.gateway.access_log import render_connection_log
from garrison.gateway.budget.plan import Plan
from garrison.gateway.client_authority import ClientAuthority
from garrison.gateway.connection import render_connection_manager
from garrison.gateway.counters import render_tags
from garrison.gateway.issuer import render_issuer_cluster
from garrison.gateway.limits import check_limits, find_allowances, render_budget_cluster
from garrison.gateway.metrics import CONNECTION_LIMIT, MAX_CONNECTIONS, render_metrics_clusters, render_metrics_listener
from garrison.gateway.rendered import describe_certificate
from garrison.gateway.settings import GUARD_PROTOCOLS, GatewaySettings
from garrison.gateway.source import GatewaySource
from garrison.gateway.upstreams import BUFFER_LIMIT_BYTES, render_clusters
from garrison.sockets import BUDGET, GATEWAY_WATCH
from garrison.unix_http import MAX_SOCKET_PATH_BYTES

CIPHERS = (  # for TLS 1.2: forward secrecy and authenticated encryption; TLS 1.3 has no others
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
LEAST_VERSION = {"intermediate": "TLSv1_2", "modern": "TLSv1_3"}
# Envoy refuses patterns of more than 100 instructions, as if they came from strangers; ours have up to 500.
RUNTIME = {"re2.max_program_size.error_level": 1000}
CURVES = ("X25519MLKEM768", "X25519", "P-256")
TLS_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
MONITORS = "type.googleapis.com/envoy.extensions.resource_monitors"


def render_envoy(source: GatewaySource) -> dict[str, Any]:
    """Render Envoy's bootstrap; written as JSON it is a configuration file.

    Raises:
        ConfigError: two contracts name the same model, or a socket's path is too long.
    """
    _check_source(source)
    settings, sockets, plan = source.settings, source.sockets, _plan_budgets(source)
    listeners = [_render_listener(source, render_connection_manager(source))]
    clusters = [
        *_render_upstreams(source),
        *_render_issuer(source),
        render_budget_cluster(sockets.admin.with_name(BUDGET)),
    ]
    runtime = dict(RUNTIME)
    config = {
        "node": {"id": "garrison", "cluster": "garrison", "metadata": _describe(source, plan)},
        "admin": _render_admin(source.sockets.admin),
        "stats_config": render_tags(),
        "layered_runtime": {"layers": [{"name": "garrison", "static_layer": runtime}]},
        "overload_manager": _render_overload(settings),
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
    if settings.metrics is not None:
        listeners.append(render_metrics_listener(settings.metrics, sockets.admin, sockets.servers, sockets.guards))
        clusters += render_metrics_clusters(sockets.admin, sockets.servers, sockets.guards)
        runtime[CONNECTION_LIMIT] = MAX_CONNECTIONS
    return config


def _plan_budgets(source: GatewaySource) -> Plan | None:
    allowances = find_allowances(source.clients, source.contracts)
    return Plan(source.settings.budgets, source.budgets, allowances) if allowances.names() else None


def _describe(source: GatewaySource, plan: Plan | None) -> dict[str, Any]:
    """Return what a configuration notes for who runs Envoy with it; Envoy ignores it."""
    noted = {
        **describe_certificate(source.certificate),
        "models": sorted(contract.model for contract in source.contracts),
        "clients": sorted(client.name for client in source.clients),
    }
    return {"garrison": {**noted, "budgets": plan.describe()} if plan else noted}


def _check_source(source: GatewaySource) -> None:
    models, sockets = [contract.model for contract in source.contracts], source.sockets
    problems = [f"model {m}: two contracts; serve one version" for m in sorted(set(models)) if models.count(m) > 1]
    for_guard = [protocol for protocol in source.protocols if protocol in GUARD_PROTOCOLS]
    if not sockets.servers and len(for_guard) < len(source.protocols):
        problems.append("there is no server to send requests to; name the directory of its sockets")
    if for_guard and not sockets.guards:
        found = f"gateway.yaml: protocols: {', '.join(for_guard)}: there is no guard"
        problems.append(f"{found}; name the directory of its sockets with --guard, or take this out")
    of_servers = (path for server in sockets.servers for path in (server.inference, server.readiness, server.watch))
    of_guards = (path for guard in sockets.guards for path in (guard.rest, guard.grpc, guard.readiness))
    own = (sockets.admin.with_name(BUDGET), sockets.admin.with_name(GATEWAY_WATCH), sockets.admin)
    for path in map(str, (*of_servers, *of_guards, *own)):
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            most = f"a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes"
            problems.append(f"{path}: {most}; use a shorter directory")
    problems += [f"clients.yaml: {problem}" for problem in check_limits(source)]
    metrics = source.settings.metrics
    if metrics is not None and metrics.port == source.port:
        problems.append(f"gateway.yaml: metrics.port: {metrics.port} is the clients' port; give another one")
    if problems:
        raise ConfigError(*problems)


def _render_admin(path: Path) -> dict[str, Any]:
    """Admin can stop Envoy and show its memory: a private socket, and only the calls we make ourselves."""
    return {
        "address": {"pipe": {"path": str(path), "mode": 0o600}},
        "allow_paths": [*({"exact": path} for path in admin.PATHS), {"prefix": "/stats"}],
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


def _render_upstreams(source: GatewaySource) -> list[dict[str, Any]]:
    sockets = source.sockets
    return render_clusters(sockets.servers, source.contracts, sockets.guards, source.protocols)


def _render_issuer(source: GatewaySource) -> list[dict[str, Any]]:
    oidc = source.settings.authentication.oidc
    if oidc is None or oidc.jwks_url is None:
        return []
    return [render_issuer_cluster(oidc, source.verification.oidc_authority or "")]


def _render_listener(source: GatewaySource, manager: dict[str, Any]) -> dict[str, Any]:
    settings = source.settings
    chain = {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _render_tls(source)},
        "transport_socket_connect_timeout": f"{settings.timeouts.handshake_s}s",
        "filters": [manager],
    }
    return {
        "name": "gateway",
        "address": {"socket_address": {"address": settings.address, "port_value": source.port}},
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT_BYTES,
        # Off: with it, a second process of the same user could take half of our connections without an error.
        "enable_reuse_port": False,
        "filter_chains": [chain],
        "access_log": [render_connection_log()],
    }


def _render_tls(source: GatewaySource) -> dict[str, Any]:
    parameters = {
        "tls_minimum_protocol_version": LEAST_VERSION[source.settings.tls_profile],
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": list(CIPHERS),
        "ecdh_curves": list(CURVES),
    }
    pair = {
        "certificate_chain": {"filename": str(source.certificate.chain_path)},
        "private_key": {"filename": str(source.certificate.key_path)},
    }
    common = {"tls_params": parameters, "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]}
    authentication, clients = source.settings.authentication, source.verification.clients
    if not authentication.uses("mtls") or clients is None:
        return {"@type": TLS_TYPE, "common_tls_context": common}
    return {
        "@type": TLS_TYPE,
        "common_tls_context": {**common, "validation_context": _render_client_check(clients)},
        "require_client_certificate": authentication.always_uses("mtls"),
        # A session that is taken up again is one whose certificate nobody has checked again.
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
    }


def _render_client_check(clients: ClientAuthority) -> dict[str, Any]:
    """Refuse, in the handshake, whatever certificate is not valid; that one is presented at all is not asked here."""
    check: dict[str, Any] = {
        "trusted_ca": {"inline_string": clients.certificates},
        "trust_chain_verification": "VERIFY_TRUST_CHAIN",
    }
    if clients.crl is not None:
        check |= {"crl": {"inline_string": clients.crl}, "only_verify_leaf_cert_crl": not clients.covers_chain}
    return check
