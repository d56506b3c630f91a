"""How Envoy speaks HTTP with clients: Envoy's edge hardening guide, item by item.

https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge
"""

from typing import Any

from garrison.gateway.access_log import render_access_logs
from garrison.gateway.admin import STAT_PREFIX
from garrison.gateway.filters import render_filters
from garrison.gateway.replies import render_local_replies
from garrison.gateway.routes import speaks_grpc
from garrison.gateway.routes.table import render_routes
from garrison.gateway.settings import GatewaySettings
from garrison.gateway.source import GatewaySource

TYPE = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
MUTATION = "envoy.http.early_header_mutation.header_mutation"
MUTATION_TYPE = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
H2_WINDOW_BYTES = 32 * 2**20


def render_connection_manager(source: GatewaySource) -> dict[str, Any]:
    """Render the network filter that turns a client's bytes into checked requests."""
    manager = {
        "@type": TYPE,
        "stat_prefix": STAT_PREFIX,
        **_identity(),
        **_paths(),
        **_protocols(),
        **_bounds(source.settings),
        "early_header_mutation_extensions": [_drop_claimed_identity()],
        "http_filters": render_filters(source),
        "route_config": render_routes(source.settings, source.contracts),
        "local_reply_config": render_local_replies(grpc=speaks_grpc(source.protocols)),
        "access_log": render_access_logs(),
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _identity() -> dict[str, Any]:
    """Believe the connection, not the headers, and say nothing about ourselves."""
    return {
        "use_remote_address": True,  # the client's address is the connection's, not what X-Forwarded-For says
        "xff_num_trusted_hops": 0,
        "skip_xff_append": True,
        # Nobody is internal: Envoy would believe more headers from internal callers.
        "internal_address_config": {"unix_sockets": False},
        "generate_request_id": True,
        "preserve_external_request_id": False,  # a client must not choose the id that our logs are joined on
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",  # adds no `server: envoy`; headers.lua drops the upstream's
    }


def _paths() -> dict[str, Any]:
    """Let one resource have one name: filters, routes and the model server must not read a path differently."""
    return {
        "normalize_path": True,  # /a/../b
        "merge_slashes": True,  # //a
        "path_with_escaped_slashes_action": "REJECT_REQUEST",  # /a%2Fb, which TorchServe decodes before routing
    }


def _protocols() -> dict[str, Any]:
    """Bound what HTTP allows a client to do; what is left out is off by default (upgrades, CONNECT, HTTP/3)."""
    return {
        "codec_type": "AUTO",
        "http_protocol_options": {
            "accept_http_10": False,
            "allow_absolute_url": False,  # we are no forward proxy
            "enable_trailers": False,  # nobody sends them, and parsers differ about them
            "allow_chunked_length": False,  # both Content-Length and Transfer-Encoding: request smuggling
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            # The one item where we leave the guide (64 KiB, 1 MiB): a client that reads only once it may send no more,
            # as httpx does, would find its refused stream closed instead of the refusal. The windows are not what
            # bounds memory here: a refused stream's data is dropped, any other is held by the buffer filter up to its
            # model's limit, and all of them together by the heap monitor.
            "initial_stream_window_size": H2_WINDOW_BYTES,
            "initial_connection_window_size": H2_WINDOW_BYTES,
            "allow_connect": False,
            "allow_metadata": False,
        },
    }


def _bounds(settings: GatewaySettings) -> dict[str, Any]:
    """Give every step of a request an end, and its headers a size."""
    limits, timeouts = settings.limits, settings.timeouts
    return {
        "max_request_headers_kb": max(1, limits.max_request_headers_bytes // 1024),
        "request_headers_timeout": f"{timeouts.headers_s}s",
        "request_timeout": f"{timeouts.request_s}s",
        "stream_idle_timeout": f"{timeouts.request_s}s",
        "common_http_protocol_options": {
            "idle_timeout": f"{timeouts.idle_s}s",
            "max_headers_count": limits.max_header_count,
            # X_Garrison_Client and x-garrison-client are the same name to some servers.
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
    }


def _drop_claimed_identity() -> dict[str, Any]:
    """Drop every x-garrison-* header, and the request id, before anything reads the request."""
    names = [
        {"remove_on_match": {"key_matcher": {"prefix": "x-garrison-", "ignore_case": True}}},
        {"remove": "x-request-id"},
    ]
    return {"name": MUTATION, "typed_config": {"@type": MUTATION_TYPE, "mutations": names}}
