"""Envoy with our configuration in front of recorders, or what is no gateway; and how a row gets there."""

import contextlib
import dataclasses
import json
import select
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attacks.gateway.certificates import CERTIFICATES, write_certificates
from attacks.gateway.exchange import BROKEN, Answer, Http1, Http2
from attacks.gateway.forgeries import forge_keys
from attacks.gateway.naive import NaiveGateway
from attacks.gateway.recorder import READY, Recorder, Seen
from attacks.gateway.rows.row import Attempt, Drip, Presented, Row, Steps
from attacks.gateway.tokens import forge_tokens
from garrison.gateway import keys
from garrison.gateway.certificates import ensure_certificate
from stack.gateways import Place, http_manager, open_gateway
from stack.issuers import AUDIENCE, ISSUER, MAKERS, Issuer

PATIENCE_S = 20
DRIP_S = 0.1
CLIENTS = """
clients:
  demo: {models: [digits], requests_per_second: 100000, burst: 100000}
  neighbour: {models: [digits, faces], requests_per_second: 100000, burst: 100000}
"""
WAYS = f"""
authentication:
  accept: [oidc, mtls]
  models: {{faces: [mtls+key]}}
  oidc: {{issuer: "{ISSUER}", audience: {AUDIENCE}, jwks_file: issuer.json, algorithms: [ES256, RS256]}}
  mtls: {{authority: clients.pem, revoked: revoked.pem}}
"""
CALLERS = """
clients:
  demo:
    {models: [digits, faces], requests_per_second: 100000, burst: 100000,
     subjects: [demo-sub], certificates: ["spiffe://bank/demo", "demo.example"]}
  neighbour:
    {models: [digits, faces], requests_per_second: 100000, burst: 100000,
     subjects: [neighbour-sub], certificates: ["neighbour.example"]}
"""
IN_STEP = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass
class Grounds(Place):
    """Where all doors lead to: recorders, and the keys that were made for there."""

    tokens: dict[str, str] = field(default_factory=dict)

    def fill(self, data: bytes) -> bytes:
        """Put keys in the place of their names: `<key>` is good, the rest is in forgeries.py."""
        for name, token in self.tokens.items():
            data = data.replace(f"<{name}>".encode(), token.encode())
        return data

    def in_other_ways(self) -> "Grounds":
        """Return the same where callers bring tokens of an issuer, certificates, or a certificate and a key."""
        return dataclasses.replace(self, settings=WAYS, clients=CALLERS)

    def hurry(self, **timeouts: int) -> "Grounds":
        """Return the same with other timeouts."""
        chosen = yaml.safe_load(self.settings)
        chosen["timeouts"] |= timeouts
        return dataclasses.replace(self, settings=yaml.safe_dump(chosen))


@dataclass(frozen=True)
class SlowAnswers:
    """What each of many attackers at a time was told, and what the server saw of them."""

    answers: dict[str, list[Answer]]
    seen: list[Seen]


class Door:
    """Something that takes requests in front of the recorders: the gateway, or what stands in its place."""

    def __init__(self, grounds: Grounds, port: int) -> None:
        self.grounds, self.port = grounds, port

    def connect(self, protocol: str, timeout_s: float = PATIENCE_S, certificate: str = "") -> ssl.SSLSocket:
        tls = ssl.create_default_context(cafile=str(self.grounds.directory / "tls" / "ca.pem"))
        tls.set_alpn_protocols([protocol])
        if certificate:
            tls.load_cert_chain(self.grounds.directory / CERTIFICATES / f"{certificate}.pem")
        return tls.wrap_socket(self.connect_plain(timeout_s), server_hostname="localhost")

    def connect_plain(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def attempt(self, attempt: Attempt, count: int = 1) -> list[Answer]:
        """Send one side of a row, and return as many answers."""
        if isinstance(attempt, bytes | Presented):
            return self._over_http1(attempt, count)
        return [self._drip(attempt) if isinstance(attempt, Drip) else self._over_http2(attempt)]

    def _over_http1(self, attempt: bytes | Presented, count: int) -> list[Answer]:
        """Return the answers; a connection that stays open must answer what comes next as what it is."""
        data, certificate = (attempt, "") if isinstance(attempt, bytes) else (attempt.data, attempt.certificate)
        with self.connect("http/1.1", certificate=certificate) as connection:
            wire = Http1(connection)
            wire.send(self.grounds.fill(data))
            answers = [wire.read(not data.startswith(b"HEAD ")) for _ in range(count)]
            if not answers[-1].closes:
                wire.send(IN_STEP)
                following = wire.read()
                assert following.closes or (following.verdict, following.body) == (200, READY), following
            return answers

    def _drip(self, drip: Drip) -> Answer:
        with self.connect("http/1.1") if drip.tls else self.connect_plain() as connection:
            wire = Http1(connection)
            wire.send(self.grounds.fill(drip.start))
            deadline = time.monotonic() + PATIENCE_S
            while not select.select([connection], [], [], DRIP_S)[0] and time.monotonic() < deadline:
                wire.send(drip.piece)
            return wire.read()

    def _over_http2(self, steps: Steps) -> Answer:
        with self.connect("h2") as connection:
            wire = Http2(connection, self.grounds.fill)
            return wire.read(steps(wire) or 1)

    def seen(self) -> list[Seen]:
        return self.grounds.inference.seen

    def lets_through(self, row: Row, patience_s: float = 0) -> bool:
        """Say whether the server sees an attack, and in it what should not be there.

        A server that waits for more of a body is given `patience_s`, then it has to take what it has.
        """
        self.forget()
        certificate = row.attack.certificate if isinstance(row.attack, Presented) else ""
        with self.connect("h2" if row.is_http2 else "http/1.1", certificate=certificate) as connection:
            self._send(connection, row.attack)
            self._wait_for_seen(patience_s)
            connection.settimeout(1)
            with contextlib.suppress(*BROKEN, TimeoutError):
                connection.unwrap()
        self._wait_for_seen(PATIENCE_S)
        seen = self.seen()
        return bool(seen) and (not row.absent or any(part in one.raw for one in seen for part in row.absent))

    def _send(self, connection: socket.socket, attempt: Attempt) -> None:
        if isinstance(attempt, bytes):
            Http1(connection).send(self.grounds.fill(attempt))
        elif isinstance(attempt, Presented):
            self._send(connection, attempt.data)
        elif not isinstance(attempt, Drip):
            attempt(Http2(connection, self.grounds.fill))

    def _wait_for_seen(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.seen() and time.monotonic() < deadline:
            time.sleep(0.002)

    def forget(self) -> None:
        self.grounds.reset()


@contextlib.contextmanager
def open_grounds() -> Iterator[Grounds]:
    """Make a directory, with a path that is short enough for sockets, and everything in it."""
    with tempfile.TemporaryDirectory(prefix="door-") as name:
        directory = Path(name)
        keys.init_keys(directory / "keys")
        issuer = Issuer({algorithm: MAKERS[algorithm]() for algorithm in ("ES256", "RS256", "ES384")})
        (directory / "issuer.json").write_text(json.dumps(issuer.public(named=False)))
        write_certificates(directory)
        servers = Recorder(directory / "inf.sock"), Recorder(directory / "rdy.sock", READY)
        try:
            tokens = {**forge_keys(directory / "keys"), **forge_tokens(issuer)}
            yield Grounds(directory, *servers, clients=CLIENTS, tokens=tokens)
        finally:
            for server in servers:
                server.stop()


@contextlib.contextmanager
def open_door(
    grounds: Grounds, change: Callable[[dict[str, Any]], None] = lambda config: None, *, in_parts: bool = False
) -> Iterator[Door]:
    """Start Envoy; `change` may take a defence out of its configuration first, `in_parts` see `Gateway`."""
    with open_gateway(grounds, change, in_parts=in_parts) as gateway:
        yield Door(grounds, gateway.port)


@contextlib.contextmanager
def open_naive_door(grounds: Grounds) -> Iterator[Door]:
    """Start what is no gateway."""
    certificate = ensure_certificate(grounds.directory / "tls")
    with NaiveGateway(certificate, grounds.inference.path) as naive:
        yield Door(grounds, naive.port)


def wait_for_nobody(config: dict[str, Any]) -> None:
    """Let Envoy end connections at once that it otherwise gives a second, or five, to be ended by their client."""
    http_manager(config).update({"delayed_close_timeout": "0.05s", "drain_timeout": "0.05s"})
