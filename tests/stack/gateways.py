"""A real Envoy with our configuration, in front of a server on a unix socket that writes down everything it sees.

The tests in gateway/ and the attacks use it.
"""

import contextlib
import copy
import http.client
import http.server
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.contract import Contract, parse_contract
from garrison.errors import Undecided
from garrison.gateway import admin, binary, certificates, envoy, keys, ledger
from garrison.gateway.clients import load_clients, make_scopes
from garrison.gateway.rendered import list_tls_files
from garrison.gateway.replies import REPLIES
from garrison.gateway.resources import split
from garrison.gateway.settings import load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource
from garrison.gateway.upstreams import GuardSockets, ServerSockets
from garrison.gateway.verification import load_verification
from garrison.stack.reload import read_pems
from garrison.stack.resources import ResourceDirectory
from logs import complete_lines, read_events

CONFIG = Path(__file__).parents[2] / "config"
DIGITS, OTHER = "/predictions/digits", "/predictions/faces"
BODY_LIMIT = 64 * 1024
WAIT_S = 30
SERVERS = {"inference", "guard-rest", "guard-grpc"}  # clusters of those that take requests
CLIENTS = """
clients:
  demo: {models: [digits, missing], requests_per_second: 1000, burst: 1000}
  both: {models: [digits, faces], requests_per_second: 1000, burst: 1000}
  slow: {models: [digits], requests_per_second: 1, burst: 3}
  brief: {models: [digits], requests_per_second: 1, burst: 3}
  narrow: {models: [faces], requests_per_second: 1000, burst: 1000}
"""


# The server behind the gateway ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A request as the model server got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Answer:
    """What the server says to every request, once `gate` is open."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b'{"label": 7}'
    gate: threading.Event = field(default_factory=threading.Event)


class RecordingServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An HTTP server on a unix socket that records requests and gives one answer to all."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path), RecordingHandler)
        self.seen: list[Seen] = []
        self.serving = 200  # for who asks whether this server takes requests
        self.arrived = threading.Event()
        self.reset()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        self.seen.clear()
        self.arrived.clear()
        self.answer = Answer()
        self.answer.gate.set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: Envoy may close a connection whenever it likes."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class RecordingHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RecordingServer

    def setup(self) -> None:
        super().setup()
        self.client_address = ("unix", 0)

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers["user-agent"] == "Envoy/HC":
            self.answer_health_check()
            return
        self.server.seen.append(Seen(self.command, self.path, self.headers.items(), body))
        self.server.arrived.set()
        answer = self.server.answer
        answer.gate.wait(WAIT_S)
        if answer.status == 0:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def answer_health_check(self) -> None:
        self.send_response_only(self.server.serving)
        self.send_header("content-length", "0")
        self.end_headers()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def log_message(self, *_: Any) -> None:
        pass


# The gateway under test -----------------------------------------------------------------------------------------------


@dataclass
class Reply:
    """An answer as a client got it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["reason"])


class Gateway:
    """An Envoy process and what talks to it.

    It is started with its configuration in parts, as `gateway run` does; or as one, which watches no files: a user has
    128 watchers (inotify instances), and each part takes one.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        port: int,
        *,
        wait_for_server: bool = True,
        in_parts: bool = True,
    ) -> None:
        self.port = port
        self.log_path = directory / f"envoy-{port}.log"
        config_path = directory / f"envoy-{port}.json"
        self.ca_path = directory / "tls" / "ca.pem"
        self.admin = Path(config["admin"]["address"]["pipe"]["path"])
        self.resources = ResourceDirectory(directory / f"xds-{port}", self.admin)
        if in_parts:
            parts = split(config, self.resources.path, read_pems(list_tls_files(config)))
            self.resources.write_first(parts.resources)
        config_path.write_text(json.dumps(parts.bootstrap if in_parts else config))
        with self.log_path.open("wb") as log:
            command = [*binary.envoy_command(binary.find_envoy(), config_path), "--concurrency", "2"]
            command[command.index(str(binary.LOG_FLUSH_MS))] = "50"  # tests do not wait a second for each line
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        names = {cluster["name"] for cluster in config["static_resources"]["clusters"]} & SERVERS
        self.wait_until_ready(len(names) if wait_for_server else 0)

    def wait_until_ready(self, servers: int = 1) -> None:
        """Wait until Envoy accepts connections and has found this many servers that take requests."""
        for _ in wait_until(WAIT_S):
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                if admin.count_servers(self.admin) >= servers and self._is_open():
                    return
            except Undecided:
                continue
        raise AssertionError(self.log_path.read_text())

    def _is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def tls(self) -> ssl.SSLContext:
        """A new one each time: httpx changes the one it is given."""
        return ssl.create_default_context(cafile=str(self.ca_path))

    def connect(self, protocols: Sequence[str] = ("http/1.1",), certificate: Path | None = None) -> ssl.SSLSocket:
        """Connect; `certificate` is a PEM file with a client's certificate, its chain, and its key."""
        tls = self.tls
        tls.set_alpn_protocols(list(protocols))
        if certificate is not None:
            tls.load_cert_chain(certificate)
        return self.connect_with(tls)

    def connect_with(self, tls: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        return tls.wrap_socket(plain, server_hostname="localhost", session=session)

    def send(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[str] | None = None,
        body: bytes = b"",
        certificate: Path | None = None,
    ) -> Reply:
        """Send a request whose target and headers go out exactly as given, over HTTP/1.1."""
        lines = headers if isinstance(headers, list) else [f"{k}: {v}" for k, v in (headers or {}).items()]
        head = [f"{method} {target} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *lines]
        return self.send_raw("\r\n".join(head).encode() + b"\r\n\r\n" + body, method, certificate)

    def send_raw(self, data: bytes, method: str = "POST", certificate: Path | None = None) -> Reply:
        with self.connect(certificate=certificate) as connection:
            connection.sendall(data)
            return read_reply(connection, method)

    def access_log(self, count: int) -> list[dict[str, Any]]:
        """Return the access log once it has `count` lines: Envoy writes it behind its answers' backs."""
        for _ in wait_until(WAIT_S):
            lines = read_events(self.log_path)
            if len(lines) >= count:
                return lines
        raise AssertionError(f"no {count} lines in {self.log_path.read_text()}")

    def logged(self, reply: Reply) -> dict[str, Any]:
        """Return the line of the access log about one answer."""
        for _ in wait_until(WAIT_S):
            for line in complete_lines(self.log_path):
                if reply.headers["x-request-id"] in line and line.endswith("}"):
                    found: dict[str, Any] = json.loads(line)
                    return found
        raise AssertionError(f"no line about {reply}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)


def read_reply(connection: socket.socket, method: str = "POST") -> Reply:
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        return Reply(response.status, response.headers, response.read())
    finally:
        response.close()


def wait_until(timeout_s: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make_contract(model: str) -> Contract:
    return parse_contract(
        f"""
        garrison: 1
        model: {model}
        version: "1"
        task: image-classification
        inputs:
          image: {{kind: image, forms: [raw], formats: [png], max_bytes: {BODY_LIMIT}, min_side: 1, max_side: 8,
                  max_pixels: 64, max_frames: 1, colour: grey, exact: [8, 8, 1]}}
        batch: {{max_items: 8, max_delay_ms: 5, max_bytes: 1MiB}}
        workers: {{count: 2, queue: 64, timeout_s: 2}}
        outputs: {{labels: labels.json, top_k: 5, decimals: 3}}
        """.encode(),
        model,
    )


def make_saved_model_contract(model: str) -> Contract:
    """Return the contract of a SavedModel whose largest gRPC message is as long as a body of the others."""
    return parse_contract(
        f"""
        garrison: 1
        model: {model}
        version: "1"
        task: tensorflow
        signatures:
          serving_default:
            inputs: {{image: {{kind: bytes, max_bytes: 64KiB}}}}
            outputs: {{scores: {{dtype: float32, shape: [2]}}}}
        batch: {{max_items: 8, max_delay_ms: 5, max_bytes: 1MiB}}
        workers: {{count: 2, queue: 64, timeout_s: 2}}
        version_labels: [stable, v1.2-rc_3]
        """.encode(),
        model,
    )


@dataclass
class Place:
    """A directory with keys, a certificate and the two servers behind the gateway.

    What the gateway is rendered from can be exchanged: the text of gateway.yaml (`settings`) and of clients.yaml, and
    the admitted models.
    """

    directory: Path
    inference: RecordingServer
    readiness: RecordingServer
    settings: str = (CONFIG / "gateway.yaml").read_text()
    clients: str = CLIENTS
    models: tuple[str, ...] = ("digits", "faces")
    saved_models: tuple[str, ...] = ()  # for TensorFlow Serving
    contracts: tuple[Contract, ...] = ()  # further ones
    guards: tuple[GuardSockets, ...] = ()

    def source(self, port: int) -> GatewaySource:
        """Return what the gateway is rendered from; its files are written first."""
        settings, clients = self.directory / "gateway.yaml", self.directory / "clients.yaml"
        settings.write_text(self.settings)
        clients.write_text(self.clients)
        loaded = load_gateway(settings)
        return GatewaySource(
            loaded,
            load_clients(clients),
            (*map(make_contract, self.models), *map(make_saved_model_contract, self.saved_models), *self.contracts),
            load_verification(loaded, self.directory),
            certificates.ensure_certificate(self.directory / "tls"),
            GatewaySockets(
                (ServerSockets(*(self.directory / f"{name}.sock" for name in ("inf", "rdy", "watch"))),),
                self.directory / f"adm-{port}.sock",
                self.guards,
            ),
            port,
            self.directory / "budgets",
        )

    def render(self, port: int) -> dict[str, Any]:
        return envoy.render_envoy(self.source(port))

    def start(self, change: Callable[[dict[str, Any]], None] = lambda config: None, **how: bool) -> Gateway:
        """Start Envoy; `change` may spoil the configuration first, `how` is for `Gateway`."""
        port = free_port()
        config = copy.deepcopy(self.render(port))
        change(config)
        return Gateway(self.directory, config, port, **how)

    def reset(self) -> None:
        """Forget what the servers have seen, and let them answer as they do at first."""
        self.inference.reset()
        self.readiness.reset()

    def key(self, client: str = "demo", models: tuple[str, ...] = ("digits",), **kwargs: Any) -> str:
        return self.issue(client, make_scopes(models), **kwargs).token

    def issue(self, client: str, scopes: Sequence[str], **kwargs: Any) -> keys.IssuedKey:
        return keys.issue_key(self.directory / "keys", client, scopes, timedelta(hours=1), **kwargs)

    def revoke(self, *issued: keys.IssuedKey) -> None:
        """Revoke keys, as the gateway will know once it is rendered again."""
        now = datetime.now(UTC)
        entries = [ledger.Revoked(k.record.key_id, k.record.client, k.record.expires_at, now, "") for k in issued]
        ledger.write_revoked(self.directory / "keys", entries)

    def sign(self, **claims: Any) -> str:
        """Sign claims that `issue_key` would never make; a claim given as None is left out."""
        pem = (self.directory / "keys" / "signing.pem").read_bytes()
        kid = keys.public_jwks(self.directory / "keys")["keys"][0]["kid"]
        chosen = {name: value for name, value in {**good_claims(), **claims}.items() if value is not None}
        return jwt.encode(chosen, pem, algorithm="ES256", headers={"kid": kid})


@contextlib.contextmanager
def open_place(directory: Path, **changes: Any) -> Iterator[Place]:
    """Make keys and start the two recording servers in a directory; `changes` are fields of `Place`."""
    keys.init_keys(directory / "keys")
    servers = RecordingServer(directory / "inf.sock"), RecordingServer(directory / "rdy.sock")
    try:
        yield Place(directory, *servers, **changes)
    finally:
        for server in servers:
            server.stop()


@contextlib.contextmanager
def open_gateway(
    place: Place, change: Callable[[dict[str, Any]], None] = lambda config: None, **how: bool
) -> Iterator[Gateway]:
    """Start Envoy at a place for as long as the block takes; the servers forget what they have seen before."""
    place.reset()
    gateway = place.start(change, **how)
    try:
        yield gateway
    finally:
        gateway.stop()


def good_claims() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "iss": "garrison", "aud": "garrison-gateway", "sub": "demo", "scopes": ["digits:predict"],
        "iat": now, "nbf": now, "exp": now + timedelta(hours=1), "jti": "0" * 32,
    }  # fmt: skip


def signed_by_another(place: Place) -> str:
    kid = keys.public_jwks(place.directory / "keys")["keys"][0]["kid"]
    return jwt.encode(good_claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": kid})


def assert_refused(reply: Reply, status: int, seen: list[Seen]) -> None:
    """Check status, catalogue form, the header for the log, and that the model server saw nothing."""
    assert reply.status == status, reply
    assert json.loads(reply.body) == {"reason": REPLIES[status].reason, "message": REPLIES[status].message}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-garrison-reason"] == REPLIES[status].reason
    assert seen == []


def http_manager(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a rendered configuration that holds the filters and the routes."""
    listener = config["static_resources"]["listeners"][0]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    """Return what takes filters out of a configuration: `rbac`, or a script of ours by its full name."""

    def remove(config: dict[str, Any]) -> None:
        manager = http_manager(config)
        for name in names:
            full = name if name.startswith("garrison.") else f"envoy.filters.http.{name}"
            kept = [item for item in manager["http_filters"] if item["name"] != full]
            assert len(kept) == len(manager["http_filters"]) - 1
            manager["http_filters"] = kept
            for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
                route.get("typed_per_filter_config", {}).pop(full, None)

    return remove


def with_script_broken(name: str, before: str, after: str) -> Callable[[dict[str, Any]], None]:
    """Return what replaces a piece of one of our scripts in a configuration."""

    def break_script(config: dict[str, Any]) -> None:
        (lua,) = [item for item in http_manager(config)["http_filters"] if item["name"] == name]
        source = lua["typed_config"]["default_source_code"]
        assert before in source["inline_string"]
        source["inline_string"] = source["inline_string"].replace(before, after)

    return break_script
