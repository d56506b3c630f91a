"""Stacks that lack one gate, for the proof that the gate is what stops an attack.

The product has no switch that turns a gate off; these are put together here, in front of the TorchServe that the
attack tests share.
"""

import contextlib
import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garrison.archive import open_packed_model
from garrison.gateway.admin import count_servers
from garrison.gateway.binary import envoy_command, find_envoy
from garrison.gateway.source import GatewaySockets
from garrison.gateway.upstreams import ServerSockets
from garrison.process import Child
from garrison.stack.gateway import is_listening
from garrison.stack.local import GatewayPlaces, render_gateway
from stack.running import RunningStack, Target, free_port

START_TIMEOUT_S = 20


@contextlib.contextmanager
def gateway_without(
    stack: RunningStack, directory: Path, *filters: str, upstream: Path | None = None
) -> Iterator[Target]:
    """Run a second Envoy, configured as the product does except for some filters, in front of the same TorchServe.

    `filters` are Envoy's own by their short names, or our scripts (`garrison.headers`); `upstream` is another socket to
    put behind it.
    """
    port = free_port()
    config = render(stack, port, directory / f"admin-{port}.sock", upstream or stack.run_directory / "inference.sock")
    for name in filters:
        remove_filter(config, name if name.startswith("garrison.") else f"envoy.filters.http.{name}")
    path = directory / f"envoy-{port}.json"
    path.write_text(json.dumps(config))
    child = Child("Envoy", envoy_command(find_envoy(), path), {"LANG": "C.UTF-8"}, directory, lambda line: None)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_listening("127.0.0.1", port) or not has_servers(Path(config["admin"]["address"]["pipe"]["path"])):
            assert child.exit_code() is None and time.monotonic() < deadline, list(child.last_lines)
            time.sleep(0.05)
        yield Target(port, stack.target.authority, stack.target.keys)
    finally:
        child.stop(5)


def render(stack: RunningStack, port: int, admin: Path, inference: Path) -> dict[str, Any]:
    """Return the configuration that `garrison serve` would write for this stack on another port."""
    assert stack.models is not None
    models = tuple(open_packed_model(path) for path in sorted(stack.models.iterdir()))
    sockets = GatewaySockets(
        (ServerSockets(inference, stack.run_directory / "ready.sock", stack.run_directory / "watch.sock"),), admin
    )
    return render_gateway(GatewayPlaces(stack.config, stack.state, port), models, sockets)


def has_servers(admin: Path) -> bool:
    """Say whether Envoy has asked the server whether it takes requests, and heard yes."""
    return count_servers(admin) > 0


def remove_filter(config: dict[str, Any], name: str) -> None:
    """Take one HTTP filter out of a configuration, and what the routes say about it."""
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    manager = chain["filters"][0]["typed_config"]
    kept = [item for item in manager["http_filters"] if item["name"] != name]
    assert len(kept) == len(manager["http_filters"]) - 1, f"{name} is not there to be taken out"
    manager["http_filters"] = kept
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        route.get("typed_per_filter_config", {}).pop(name, None)


@dataclass(frozen=True)
class Request:
    """A request as it arrived; header names in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int


@contextlib.contextmanager
def recording_server(address: Path | tuple[str, int]) -> Iterator[list[Request]]:
    """Run an HTTP server on a unix socket or a port that answers 200 to everything and remembers what it was asked."""
    seen: list[Request] = []

    def record(*arguments: Any) -> _Recorder:
        return _Recorder(seen, *arguments)

    if isinstance(address, Path):
        server: socketserver.BaseServer = socketserver.ThreadingUnixStreamServer(str(address), record)
    else:
        server = socketserver.ThreadingTCPServer(address, record)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Recorder(http.server.BaseHTTPRequestHandler):
    def __init__(self, seen: list[Request], request: Any, client_address: Any, server: Any) -> None:
        self.seen = seen
        super().__init__(request, ("local", 0), server)

    def do_any(self) -> None:
        length = len(self.rfile.read(int(self.headers.get("content-length", 0))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append(Request(self.command, self.path, headers, length))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_any  # noqa: N815 - the base class's names

    def log_message(self, *_: Any) -> None:
        """Write nothing."""
