"""Envoy with our configuration, recorders behind it, and the clients' keys, real and forged."""

import contextlib
import json
import select
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from attacks.gateway.exchange import Answer, Http1, Http2
from attacks.gateway.forgeries import forge_keys
from attacks.gateway.naive import NaiveGateway
from attacks.gateway.recorder import READY, Recorder, Seen
from attacks.gateway.rows.row import Attempt, Drip, Steps
from garrison.contract import parse_contract
from garrison.errors import Undecided
from garrison.gateway import admin, binary, certificates, envoy, keys, settings
from garrison.gateway.upstreams import ServerSockets
from garrison.process import Child
from stack.running import REPOSITORY, free_port

PATIENCE_S = 20
DRIP_S = 0.1
BODY_LIMIT = 64 * 1024
CLIENTS = {
    "demo": ["digits"],
    "neighbour": ["digits", "faces"],
}
CONTRACT = """
garrison: 1
model: {model}
version: "1"
task: image-classification
inputs:
  image: {{kind: image, forms: [raw], formats: [png], max_bytes: {limit}, min_side: 1, max_side: 8,
          max_pixels: 64, max_frames: 1, colour: grey, exact: [8, 8, 1]}}
batch: {{max_items: 8, max_delay_ms: 5, max_bytes: 1MiB}}
workers: {{count: 2, queue: 64, timeout_s: 5}}
outputs: {{labels: labels.json, top_k: 5, decimals: 3}}
"""
IN_STEP = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
Change = Callable[[dict[str, Any]], None]


@dataclass
class Place:
    """A directory with keys, a certificate and the recorders; every door of the tests leads to it."""

    directory: Path
    inference: Recorder
    readiness: Recorder
    tokens: dict[str, str]

    def fill(self, data: bytes) -> bytes:
        """Put keys in the place of their names: `<key>` is good, the rest is in forgeries.py."""
        for name, token in self.tokens.items():
            data = data.replace(f"<{name}>".encode(), token.encode())
        return data

    def render(self, port: int, timeouts: dict[str, int]) -> dict[str, Any]:
        """Render what ships, with these tests' clients and, where they have to wait for it, shorter timeouts."""
        chosen = yaml.safe_load((REPOSITORY / "config" / "gateway.yaml").read_text())
        chosen["timeouts"] |= timeouts
        rates = {"requests_per_second": 100_000, "burst": 100_000}
        clients = {name: {"models": models, **rates} for name, models in CLIENTS.items()}
        return envoy.render_envoy(
            settings.load_gateway(self._write(f"gateway-{port}.yaml", chosen)),
            settings.load_clients(self._write(f"clients-{port}.yaml", {"clients": clients})),
            [
                parse_contract(CONTRACT.format(model=model, limit=BODY_LIMIT).encode(), model)
                for model in ("digits", "faces")
            ],
            keys.public_jwks(self.directory / "keys"),
            certificates.ensure_certificate(self.directory / "tls"),
            envoy.GatewaySockets(
                (ServerSockets(self.inference.path, self.readiness.path),), self.directory / f"admin-{port}.sock"
            ),
            port,
        )

    def _write(self, name: str, content: dict[str, Any]) -> Path:
        path = self.directory / name
        path.write_text(yaml.safe_dump(content))
        return path


@dataclass(frozen=True)
class SlowAnswers:
    """What each of many attackers at a time was told, and what the server saw of them."""

    answers: dict[str, list[Answer]]
    seen: list[Seen]


class Door:
    """Something that takes requests in front of the recorders: the gateway, or what stands in its place."""

    def __init__(self, place: Place, port: int, authority: Path) -> None:
        self.place, self.port, self.authority = place, port, authority

    def connect(self, protocol: str) -> socket.socket:
        tls = ssl.create_default_context(cafile=str(self.authority))
        tls.set_alpn_protocols([protocol])
        return tls.wrap_socket(self.connect_plain(), server_hostname="localhost")

    def connect_plain(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def attempt(self, attempt: Attempt, count: int = 1) -> list[Answer]:
        """Send one side of a row, and return as many answers."""
        if isinstance(attempt, bytes):
            return self._over_http1(attempt, count)
        return [self._drip(attempt) if isinstance(attempt, Drip) else self._over_http2(attempt)]

    def _over_http1(self, data: bytes, count: int) -> list[Answer]:
        """Return the answers; a connection that stays open must answer what comes next as what it is."""
        with self.connect("http/1.1") as connection:
            wire = Http1(connection)
            wire.send(self.place.fill(data))
            answers = [wire.read(not data.startswith(b"HEAD ")) for _ in range(count)]
            if not answers[-1].closes:
                wire.send(IN_STEP)
                following = wire.read()
                assert following.closes or (following.verdict, following.body) == (200, READY), following
            return answers

    def _drip(self, drip: Drip) -> Answer:
        with self.connect("http/1.1") if drip.tls else self.connect_plain() as connection:
            wire = Http1(connection)
            wire.send(self.place.fill(drip.start))
            deadline = time.monotonic() + PATIENCE_S
            while not select.select([connection], [], [], DRIP_S)[0] and time.monotonic() < deadline:
                wire.send(drip.piece)
            return wire.read()

    def _over_http2(self, steps: Steps) -> Answer:
        with self.connect("h2") as connection:
            wire = Http2(connection, self.place.fill)
            return wire.read(steps(wire) or 1)

    def seen(self) -> list[Seen]:
        return self.place.inference.seen

    def forget(self) -> None:
        self.place.inference.seen.clear()


@contextlib.contextmanager
def open_place() -> Iterator[Place]:
    """Make a directory, with a path that is short enough for sockets, and everything in it."""
    with tempfile.TemporaryDirectory(prefix="door-") as name:
        directory = Path(name)
        keys.init_keys(directory / "keys")
        servers = Recorder(directory / "inference.sock"), Recorder(directory / "ready.sock", READY)
        try:
            yield Place(directory, *servers, forge_keys(directory / "keys"))
        finally:
            for server in servers:
                server.stop()


@contextlib.contextmanager
def open_gateway(
    place: Place, change: Change | None = None, manager: dict[str, Any] | None = None, **timeouts: int
) -> Iterator[Door]:
    """Start Envoy; `change` may take a defence out of its configuration first."""
    port = free_port()
    config = place.render(port, timeouts)
    config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"] |= manager or {}
    if change is not None:
        change(config)
    path = place.directory / f"envoy-{port}.json"
    path.write_text(json.dumps(config))
    command = [*binary.envoy_command(binary.find_envoy(), path), "--concurrency", "2"]
    lines: list[str] = []
    child = Child("Envoy", command, {"LANG": "C.UTF-8"}, place.directory, lines.append)
    try:
        _wait_until_ready(child, Path(config["admin"]["address"]["pipe"]["path"]))
        yield Door(place, port, place.directory / "tls" / "ca.pem")
    finally:
        child.stop(5)


def _wait_until_ready(child: Child, admin_socket: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert child.exit_code() is None, list(child.last_lines)
        with contextlib.suppress(Undecided):
            if admin.count(admin_socket, admin.HEALTHY_SERVERS) >= 1:
                return
        time.sleep(0.05)
    raise AssertionError(list(child.last_lines))


@contextlib.contextmanager
def open_naive(place: Place) -> Iterator[Door]:
    """Start what is no gateway."""
    certificate = certificates.ensure_certificate(place.directory / "tls")
    with NaiveGateway(certificate, place.inference.path) as naive:
        yield Door(place, naive.port, certificate.ca_path or Path())
