"""Name what only a restart changes: two bootstraps enter, the settings in which they differ leave."""

import itertools
from collections.abc import Iterator
from typing import Any

_MANAGER = "static_resources.listeners.0.filter_chains.0.filters.0.typed_config."
_CHAIN = "static_resources.listeners.0.filter_chains.0."
FILTERS = "authentication, protocols or cors"
_SETTINGS = {  # the first that a path begins with
    "admin": "--run-dir",
    "overload_manager.resource_monitors.0": "limits.max_heap",
    "overload_manager.resource_monitors.1": "limits.max_connections",
    "static_resources.listeners.0.address.socket_address.address": "address",
    "static_resources.listeners.0.address.socket_address.port_value": "--port",
    f"{_CHAIN}transport_socket_connect_timeout": "timeouts.handshake_s",
    f"{_CHAIN}transport_socket.typed_config.common_tls_context.tls_params": "tls.profile",
    f"{_CHAIN}transport_socket": "authentication.mtls",
    f"{_MANAGER}max_request_headers_kb": "limits.max_request_headers",
    f"{_MANAGER}common_http_protocol_options.max_headers_count": "limits.max_header_count",
    f"{_MANAGER}common_http_protocol_options.idle_timeout": "timeouts.idle_s",
    f"{_MANAGER}request_headers_timeout": "timeouts.headers_s",
    f"{_MANAGER}request_timeout": "timeouts.request_s",
    f"{_MANAGER}stream_idle_timeout": "timeouts.request_s",
    f"{_MANAGER}http_filters": FILTERS,
    "static_resources.listeners.1": "metrics",
    "layered_runtime": "metrics",
}


def name_fixed(old: Any, new: Any) -> list[str]:
    """Return the settings in which two bootstraps differ; where no setting is known, the place in Envoy's own words."""
    return list(dict.fromkeys(_name(path) for path in _find_differences(old, new, "")))


def _name(path: str) -> str:
    return next((setting for begin, setting in _SETTINGS.items() if f"{path}.".startswith(f"{begin}.")), path)


def _find_differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _find_differences(old.get(key), new.get(key), f"{path}.{key}".removeprefix("."))
    elif isinstance(old, list) and isinstance(new, list):
        for number, pair in enumerate(itertools.zip_longest(old, new)):
            yield from _find_differences(*pair, f"{path}.{number}")
    elif old != new:
        yield path
