"""A real Envoy with our configuration, in front of a server on a unix socket that writes down everything it sees.

Each attack is refused with the right status and reason, *and* the server has seen nothing of it. At the end, the same
attacks with the filter in question taken out pass: the tests can fail.
"""

import base64
import contextlib
import copy
import hmac
import http.client
import http.server
import json
import shutil
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

import h2.connection
import h2.events
import h2.exceptions
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.contract import Contract, parse_contract
from garrison.errors import GarrisonError, Undecided
from garrison.gateway import admin, binary, certificates, drain, envoy, keys
from garrison.gateway.clients import load_clients
from garrison.gateway.filters import CLOCK_SKEW_S
from garrison.gateway.replies import REPLIES
from garrison.gateway.settings import load_gateway
from garrison.gateway.source import GatewaySockets, GatewaySource, Verification
from garrison.gateway.upstreams import ServerSockets
from garrison.unix_http import send_request

CONFIG = Path(__file__).parents[2] / "config"
DIGITS, OTHER = "/predictions/digits", "/predictions/faces"
BODY_LIMIT = 64 * 1024
WAIT_S = 30
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
    """An Envoy process and what a test needs to talk to it."""

    def __init__(self, directory: Path, config: dict[str, Any], port: int, *, wait_for_server: bool = True) -> None:
        self.port = port
        self.log_path = directory / f"envoy-{port}.log"
        config_path = directory / f"envoy-{port}.json"
        config_path.write_text(json.dumps(config))
        self.ca_path = directory / "tls" / "ca.pem"
        self.admin = Path(config["admin"]["address"]["pipe"]["path"])
        with self.log_path.open("wb") as log:
            command = [*binary.envoy_command(binary.find_envoy(), config_path), "--concurrency", "2"]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._wait_until_ready(1 if wait_for_server else 0)

    def _wait_until_ready(self, servers: int) -> None:
        for _ in wait_until(WAIT_S):
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                if admin.count(self.admin, admin.HEALTHY_SERVERS) >= servers and self._is_open():
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

    def connect(self, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLSocket:
        tls = self.tls
        tls.set_alpn_protocols(list(protocols))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        return tls.wrap_socket(plain, server_hostname="localhost")

    def send(
        self, method: str, target: str, headers: dict[str, str] | list[str] | None = None, body: bytes = b""
    ) -> Reply:
        """Send a request whose target and headers go out exactly as given, over HTTP/1.1."""
        lines = headers if isinstance(headers, list) else [f"{k}: {v}" for k, v in (headers or {}).items()]
        head = [f"{method} {target} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *lines]
        return self.send_raw("\r\n".join(head).encode() + b"\r\n\r\n" + body, method)

    def send_raw(self, data: bytes, method: str = "POST") -> Reply:
        with self.connect() as connection:
            connection.sendall(data)
            return read_reply(connection, method)

    def access_log(self, count: int) -> list[dict[str, Any]]:
        """Return the access log once it has `count` lines: Envoy writes it behind its answers' backs."""
        for _ in wait_until(WAIT_S):
            lines = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]
            if len(lines) >= count:
                return lines
        raise AssertionError(f"no {count} lines in {self.log_path.read_text()}")

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


@dataclass
class Place:
    """A directory with keys, a certificate and the two servers behind the gateway."""

    directory: Path
    inference: RecordingServer
    readiness: RecordingServer

    def render(self, port: int) -> dict[str, Any]:
        clients = self.directory / "clients.yaml"
        clients.write_text(CLIENTS)
        return envoy.render_envoy(
            GatewaySource(
                load_gateway(CONFIG / "gateway.yaml"),
                load_clients(clients),
                (make_contract("digits"), make_contract("faces")),
                Verification(keys.public_jwks(self.directory / "keys")),
                certificates.ensure_certificate(self.directory / "tls"),
                GatewaySockets(
                    (ServerSockets(self.directory / "inf.sock", self.directory / "rdy.sock"),),
                    self.directory / f"adm-{port}.sock",
                ),
                port,
            )
        )

    def start(
        self, change: Callable[[dict[str, Any]], None] = lambda config: None, *, wait_for_server: bool = True
    ) -> Gateway:
        """Start Envoy; `change` may spoil the configuration first."""
        port = free_port()
        config = copy.deepcopy(self.render(port))
        change(config)
        return Gateway(self.directory, config, port, wait_for_server=wait_for_server)

    def key(self, client: str = "demo", models: tuple[str, ...] = ("digits",), **kwargs: Any) -> str:
        return keys.issue_key(self.directory / "keys", client, models, timedelta(hours=1), **kwargs).token

    def sign(self, **claims: Any) -> str:
        """Sign claims that `issue_key` would never make; a claim given as None is left out."""
        pem = (self.directory / "keys" / "signing.pem").read_bytes()
        kid = keys.public_jwks(self.directory / "keys")["keys"][0]["kid"]
        chosen = {name: value for name, value in {**good_claims(), **claims}.items() if value is not None}
        return jwt.encode(chosen, pem, algorithm="ES256", headers={"kid": kid})


def good_claims() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "iss": "garrison", "aud": "garrison-gateway", "sub": "demo", "models": ["digits"],
        "iat": now, "nbf": now, "exp": now + timedelta(hours=1), "jti": "0",
    }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Keys, certificate and recording servers, shared by all tests of this file."""
    directory = tmp_path_factory.mktemp("gw")
    keys.init_keys(directory / "keys")
    servers = RecordingServer(directory / "inf.sock"), RecordingServer(directory / "rdy.sock")
    yield Place(directory, *servers)
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Gateway]:
    """One gateway with the configuration as it ships."""
    gateway = place.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(running: Gateway, place: Place) -> Gateway:
    """The shared gateway, with nothing recorded yet."""
    place.inference.reset()
    place.readiness.reset()
    return running


@pytest.fixture
def seen(place: Place) -> list[Seen]:
    """What the model server has seen in this test."""
    return place.inference.seen


def assert_refused(reply: Reply, status: int, seen: list[Seen]) -> None:
    """Check status, catalogue form, the header for the log, and that the model server saw nothing."""
    assert reply.status == status, reply
    assert json.loads(reply.body) == {"reason": REPLIES[status].reason, "message": REPLIES[status].message}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-garrison-reason"] == REPLIES[status].reason
    assert seen == []


# What passes ----------------------------------------------------------------------------------------------------------


def test_a_request_with_a_key_reaches_the_model(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key(), "content-type": "image/png"}, b"\x89PNG")
    assert (reply.status, reply.body) == (200, b'{"label": 7}')
    assert [(s.method, s.target, s.body) for s in seen] == [("POST", DIGITS, b"\x89PNG")]


def test_over_http2_too(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    with httpx.Client(http2=True, http1=False, verify=gateway.tls) as client:
        reply = client.post(
            f"https://localhost:{gateway.port}{DIGITS}", content=b"x", headers={"x-api-key": place.key()}
        )
    assert (reply.http_version, reply.status_code, len(seen)) == ("HTTP/2", 200, 1)


def test_only_listed_headers_reach_the_model_server(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    theirs = {
        "explain": "True", "cookie": "a=b", "authorization": "Bearer x", "x-forwarded-for": "10.0.0.1",
        "te": "trailers",
        "x-envoy-expected-rq-timeout-ms": "1", "x-request-id": "chosen", "accept": "*/*", "content-type": "image/png",
        "x-original-url": "/models",
    }  # fmt: skip
    gateway.send("POST", DIGITS, {**theirs, "x-api-key": place.key()}, b"x")
    headers = dict(seen[0].headers)
    assert set(headers) == {"host", "content-length", "accept", "content-type", "x-request-id", "x-garrison-client"}
    assert headers["host"] == "localhost"
    assert headers["x-garrison-client"] == "demo"
    assert headers["x-request-id"] != "chosen"


def test_only_listed_headers_reach_the_client(gateway: Gateway, place: Place) -> None:
    place.inference.answer.headers |= {
        "server": "x", "pragma": "no-cache", "x-request-id": "theirs", "set-cookie": "a=b",
        "x-envoy-upstream-canary": "1",
    }  # fmt: skip
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
    names = {name.lower() for name in reply.headers}
    fixed = {"content-type", "content-length", "date", "x-request-id", "x-content-type-options", "cache-control"}
    assert names == fixed
    assert reply.headers["x-request-id"] == dict(place.inference.seen[0].headers)["x-request-id"]


@pytest.mark.parametrize(
    "path", ["//predictions/digits", "/x/../predictions/digits", "/predictions/./digits", "/predictions/%64igits"]
)
def test_other_spellings_of_a_path_arrive_in_the_one_form(
    gateway: Gateway, place: Place, seen: list[Seen], path: str
) -> None:
    assert_refused(gateway.send("POST", path), 401, seen)
    assert gateway.send("POST", path, {"x-api-key": place.key()}, b"x").status == 200
    assert [s.target for s in seen] == [DIGITS]


def test_health_needs_no_key_and_is_the_readiness_sockets_answer(
    gateway: Gateway, place: Place, seen: list[Seen]
) -> None:
    assert gateway.send("GET", "/healthz").status == 200
    assert [s.target for s in place.readiness.seen] == ["/healthz"]
    place.readiness.seen.clear()
    place.readiness.answer.status = 503
    place.readiness.answer.body = b"worker 3 of /srv/models/digits is starting"
    assert_refused(gateway.send("GET", "/healthz"), 503, seen)


def test_health_says_503_when_nobody_listens(place: Place, seen: list[Seen]) -> None:
    def point_elsewhere(config: dict[str, Any]) -> None:
        cluster = config["static_resources"]["clusters"][1]
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["pipe"]["path"] = str(place.directory / "nobody.sock")

    place.inference.reset()
    gateway = place.start(point_elsewhere)
    try:
        assert_refused(gateway.send("GET", "/healthz"), 503, seen)
    finally:
        gateway.stop()


# Several servers ------------------------------------------------------------------------------------------------------


def add_server(config: dict[str, Any], inference: Path, readiness: Path) -> None:
    """Put another server behind a gateway."""
    for cluster, path in zip(config["static_resources"]["clusters"], (inference, readiness), strict=True):
        endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        other = copy.deepcopy(endpoints[0])
        other["endpoint"]["address"]["pipe"]["path"] = str(path)
        other["endpoint"]["health_check_config"]["address"]["pipe"]["path"] = str(readiness)
        endpoints.insert(0, other)


@pytest.fixture
def half_dead(place: Place) -> Iterator[Gateway]:
    """A gateway before two servers, one of which says that it takes requests and takes none."""
    place.inference.reset()

    def change(config: dict[str, Any]) -> None:
        add_server(config, place.directory / "nobody.sock", place.directory / "rdy.sock")

    gateway = place.start(change)
    yield gateway
    gateway.stop()


@pytest.mark.parametrize("size", [1, 40 * 1024, BODY_LIMIT], ids=["a byte", "above a buffer", "the largest"])
def test_what_one_server_does_not_take_another_gets(
    half_dead: Gateway, place: Place, seen: list[Seen], size: int
) -> None:
    body = bytes(index % 251 for index in range(size))
    replies = [half_dead.send("POST", DIGITS, {"x-api-key": place.key()}, body) for _ in range(20)]
    assert [reply.status for reply in replies] == [200] * 20
    assert [one.body for one in seen] == [body] * 20


def test_what_was_sent_is_not_sent_again(half_dead: Gateway, place: Place, seen: list[Seen]) -> None:
    """A server that dies with a request in its hands: nobody knows what it did with it."""
    place.inference.answer.status = 0  # breaks off
    for _ in range(4):
        assert half_dead.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status in (502, 503)
    assert len(seen) == 4


def test_the_clear_refusal_where_no_server_takes_requests(place: Place, seen: list[Seen]) -> None:
    place.readiness.serving = 503
    place.inference.reset()
    try:
        gateway = place.start(wait_for_server=False)
        began = time.monotonic()
        reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
        assert_refused(reply, 503, seen)
        assert json.loads(reply.body)["reason"] == "unavailable"
        assert time.monotonic() - began < 1
        (line,) = gateway.access_log(1)
        assert line["detail"].startswith("no_healthy_upstream")
    finally:
        place.readiness.serving = 200
        gateway.stop()


# Keys -----------------------------------------------------------------------------------------------------------------


def unsigned(place: Place) -> str:
    return jwt.encode(numeric_claims(), None, algorithm="none")


def signed_by_another(place: Place) -> str:
    kid = keys.public_jwks(place.directory / "keys")["keys"][0]["kid"]
    return jwt.encode(good_claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": kid})


def signed_with_the_public_key(place: Place) -> str:
    """Algorithm confusion: the public key, which anyone may know, used as an HMAC secret."""
    pem = serialization.load_pem_private_key((place.directory / "keys" / "signing.pem").read_bytes(), None)
    public = pem.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(numeric_claims())}"
    return f"{signed}.{encode_bytes(hmac.digest(public, signed.encode(), 'sha256'))}"


def altered(place: Place) -> str:
    head, _, signature = place.key("narrow", ("faces",)).split(".")
    return f"{head}.{encode(numeric_claims())}.{signature}"


def numeric_claims() -> dict[str, Any]:
    return {k: int(v.timestamp()) if isinstance(v, datetime) else v for k, v in good_claims().items()}


def encode(part: dict[str, Any]) -> str:
    return encode_bytes(json.dumps(part).encode())


def encode_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


BAD_KEYS: dict[str, Callable[[Place], str]] = {
    "empty": lambda place: "",
    "garbage": lambda place: "not-a-key",
    "three dots": lambda place: "a.b.c",
    "expired": lambda place: place.key(now=datetime.now(UTC) - timedelta(hours=1, seconds=30)),
    "not yet valid": lambda place: place.sign(nbf=datetime.now(UTC) + timedelta(minutes=5)),
    "without expiry": lambda place: place.sign(exp=None),
    "for ten years": lambda place: place.sign(exp=datetime.now(UTC) + timedelta(days=3650)),
    "another issuer": lambda place: place.sign(iss="other"),
    "another signer": signed_by_another,
    "algorithm none": unsigned,
    "algorithm confusion": signed_with_the_public_key,
    "altered claims": altered,
}


@pytest.mark.parametrize("make", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_bad_keys_are_refused(gateway: Gateway, place: Place, seen: list[Seen], make: Callable[[Place], str]) -> None:
    reply = gateway.send("POST", DIGITS, {"x-api-key": make(place)}, b"x")
    assert_refused(reply, 401, seen)
    assert "www-authenticate" not in reply.headers  # Envoy's would repeat the request's host and path


@pytest.mark.parametrize("path", [DIGITS, "/predictions/nosuch", "/predictions/", f"{DIGITS}?x=1", f"{DIGITS}/extra"])
def test_without_a_key_nothing_tells_whether_a_model_exists(gateway: Gateway, seen: list[Seen], path: str) -> None:
    assert_refused(gateway.send("POST", path), 401, seen)


@pytest.mark.parametrize("header", ["authorization: Bearer {}", "cookie: x-api-key={}", "x-api-key2: {}"])
def test_keys_elsewhere_are_not_looked_for(gateway: Gateway, place: Place, seen: list[Seen], header: str) -> None:
    assert_refused(gateway.send("POST", DIGITS, [header.format(place.key())]), 401, seen)


def test_a_good_and_a_bad_key_together_are_refused(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    both = [f"x-api-key: {place.key()}", f"x-api-key: {signed_by_another(place)}"]
    assert_refused(gateway.send("POST", DIGITS, both), 401, seen)
    assert_refused(gateway.send("POST", DIGITS, both[::-1]), 401, seen)


FORBIDDEN: dict[str, Callable[[Place], str]] = {
    "another audience": lambda place: place.sign(aud="other"),
    "without audience": lambda place: place.sign(aud=None),
    "key for another model": lambda place: place.key("both", ("faces",)),
    "client not listed": lambda place: place.key("mallory"),
    "client listed for another model": lambda place: place.key("narrow", ("digits",)),
    "models as one string": lambda place: place.sign(models="digits"),
    "no models": lambda place: place.sign(models=None),
    "name that contains a listed one": lambda place: place.sign(sub="demo2"),
    "model that contains the name": lambda place: place.sign(models=["digits2", "xdigits", "*"]),
}


@pytest.mark.parametrize("make", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_valid_keys_are_good_for_what_they_say_only(
    gateway: Gateway, place: Place, seen: list[Seen], make: Callable[[Place], str]
) -> None:
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": make(place)}, b"x"), 403, seen)


def test_a_client_taken_out_learns_no_models(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    assert_refused(gateway.send("POST", "/predictions/nosuch", {"x-api-key": place.key("mallory")}, b"x"), 403, seen)


@pytest.mark.parametrize(
    "names",
    [
        ["x-garrison-client"],
        ["X-Garrison-Client"],
        ["x-garrison-client"] * 2,
        ["x-garrison-scopes", "X-GARRISON-Reason"],
    ],
    ids=str,
)
def test_identity_headers_from_outside_do_not_survive(
    gateway: Gateway, place: Place, seen: list[Seen], names: list[str]
) -> None:
    spoof = [f"{name}: both" for name in names]
    assert gateway.send("POST", DIGITS, [*spoof, f"x-api-key: {place.key()}", *spoof], b"x").status == 200
    ours = [(name, value) for name, value in seen[0].headers if name.startswith("x-garrison")]
    assert ours == [("x-garrison-client", "demo")]
    gateway.send("GET", "/healthz", spoof)
    assert not [name for name, _ in place.readiness.seen[0].headers if name.startswith("x-garrison")]


def test_identity_headers_with_underscores_are_refused(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    reply = gateway.send("POST", DIGITS, {"X_Garrison_Client": "both", "x-api-key": place.key()}, b"x")
    assert_refused(reply, 400, seen)


def test_a_key_that_was_good_a_moment_ago_expires_all_the_same(
    gateway: Gateway, place: Place, seen: list[Seen]
) -> None:
    """The gateway remembers keys that it has verified; it must not remember them for longer than they are valid."""
    key = {"x-api-key": place.key(now=datetime.now(UTC) - timedelta(hours=1) + timedelta(seconds=3))}
    assert gateway.send("POST", DIGITS, key).status == 200
    time.sleep(3 + CLOCK_SKEW_S + 1)
    seen.clear()
    assert_refused(gateway.send("POST", DIGITS, key), 401, seen)


# Routes and forms -----------------------------------------------------------------------------------------------------

NOWHERE = [
    ("GET", DIGITS, 404),
    ("PATCH", DIGITS, 404),
    ("OPTIONS", DIGITS, 404),
    ("TRACE", DIGITS, 404),
    ("POST", f"{DIGITS}?explain=true", 404),
    ("POST", f"{DIGITS}?", 404),
    ("POST", f"{DIGITS}/", 404),
    ("POST", f"{DIGITS}/1.0", 404),
    ("POST", f"{DIGITS};x", 404),
    ("POST", "/predictions/Digits", 404),
    ("POST", "/predictions/missing", 404),
    ("POST", "/predictions/../models", 404),
    ("POST", "/predictions/%2e%2e/models", 404),
    ("POST", "/models?url=http://127.0.0.1/x.mar", 404),
    ("POST", "/workflows?url=http://127.0.0.1/x.war", 404),
    ("PUT", "/models/digits?min_worker=9", 404),
    ("DELETE", "/models/digits", 404),
    ("GET", "/models", 404),
    ("GET", "/ping", 404),
    ("GET", "/metrics", 404),
    ("GET", "/api-description", 404),
    ("OPTIONS", "/", 404),
    ("POST", "/invocations", 404),
    ("POST", "/explanations/digits", 404),
    ("POST", "/v1/models/digits:predict", 404),
    ("POST", "/v2/models/digits/infer", 404),
    ("POST", "/healthz", 404),
    ("GET", "/healthz?x", 404),
    ("POST", "/predictions%2Fdigits", 400),
    ("POST", "/predictions%5Cdigits", 400),
    ("POST", "/predictions/..%2Fmodels", 400),
    ("POST", "http://localhost/predictions/digits", 404),
    ("POST", f"{DIGITS}#x", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), NOWHERE, ids=str)
def test_with_a_key_everything_else_is_nowhere(
    gateway: Gateway, place: Place, seen: list[Seen], method: str, path: str, status: int
) -> None:
    reply = gateway.send(method, path, {"x-api-key": place.key("both", ("digits", "faces", "missing"))})
    assert_refused(reply, status, seen)
    assert place.readiness.seen == []


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT localhost:22 HTTP/1.1",
        "POST /predictions/digits HTTP/1.0",
        "POST /predictions/digits HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade",
        "POST /predictions/digits HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4",
        "POST /predictions/digits HTTP/1.1\r\ntransfer-encoding: gzip, chunked",
        "POST /predictions/digits HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5",
        "POST /predictions/digits HTTP/1.1\r\nx: a\0b",
        "GARBAGE",
    ],
    ids=lambda line: line.replace("\r\n", " "),
)
def test_requests_that_are_no_plain_http_1_1_are_refused(
    gateway: Gateway, place: Place, seen: list[Seen], request_line: str
) -> None:
    head = f"{request_line}\r\nhost: localhost\r\nx-api-key: {place.key()}\r\n\r\n"
    assert 400 <= gateway.send_raw(head.encode() + b"0\r\n\r\n").status <= 505
    assert seen == []


def test_an_offer_of_h2c_is_not_passed_on(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    """Smuggling through an upgrade: Envoy ignores the offer, so the server must not hear of it."""
    offer = {"upgrade": "h2c", "connection": "Upgrade, HTTP2-Settings", "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    assert gateway.send("POST", DIGITS, {**offer, "x-api-key": place.key()}).status == 200
    assert not {name for name, _ in seen[0].headers} & {"upgrade", "connection", "http2-settings"}


REFUSED_FORMS = [
    ["content-type: application/x-www-form-urlencoded"],
    ["content-type: Application/X-WWW-Form-URLencoded; charset=utf-8"],
    ["content-type: application/x-www-form-urlencoded\t;a=b"],
    ["content-type: multipart/form-data; boundary=x"],
    ["content-type: multipart/form-dataX"],
    ["content-type: multipart/mixed; boundary=x"],
    ["content-type: image/png, multipart/form-data"],
    ["content-type: image/png; a=b, multipart/form-data"],
    ["content-type: image/png", "content-type: multipart/form-data"],
    ["content-type: nonsense"],
    ["content-type: "],
    ["content-encoding: gzip"],
    ["content-encoding: identity, gzip"],
    ["content-encoding: identity", "content-encoding: gzip"],
    ["content-encoding: br"],
]


@pytest.mark.parametrize("headers", REFUSED_FORMS, ids=str)
def test_forms_and_compression_are_refused(
    gateway: Gateway, place: Place, seen: list[Seen], headers: list[str]
) -> None:
    reply = gateway.send("POST", DIGITS, [*headers, f"x-api-key: {place.key()}"], b"a&a&a")
    assert_refused(reply, 415, seen)


@pytest.mark.parametrize("header", ["content-type: application/json; charset=utf-8", "content-encoding: identity"])
def test_plain_forms_pass(gateway: Gateway, place: Place, seen: list[Seen], header: str) -> None:
    assert gateway.send("POST", DIGITS, [header, f"x-api-key: {place.key()}"], b"{}").status == 200


PICTURE = b"\x89PNG\r\n--x\r\n\r\n--X--" + bytes(range(256)) * 200  # larger than one of Envoy's buffers
DISPOSITION = b'Content-Disposition: form-data; name="data"\r\n'
NAMED = b'Content-Disposition: form-data; name="data"; filename="a\xc3\xa4.png"\r\nContent-Type: image/png\r\n'


def write_form(*heads: bytes, boundary: bytes = b"bOunD", end: bytes = b"--\r\n", data: bytes = PICTURE) -> bytes:
    """Write a form with one part for each head."""
    parts = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n" + data + b"\r\n" for head in heads)
    return parts + b"--" + boundary + end


ACCEPTED_FORMS = {
    "as curl -F writes it": ("boundary=bOunD", write_form(NAMED)),
    "without a file name": ("boundary=bOunD", write_form(DISPOSITION)),
    "a field named body": ("boundary=bOunD", write_form(DISPOSITION.replace(b'"data"', b'"body"'))),
    "a boundary in quotes": ('boundary="bOunD"', write_form(DISPOSITION)),
    "a long boundary": (f"boundary={'b' * 70}", write_form(DISPOSITION, boundary=b"b" * 70)),
    "no line end behind it": ("boundary=bOunD", write_form(NAMED, end=b"--")),
    "headers in small letters": ("boundary=bOunD", write_form(NAMED.lower())),
}
REFUSED_PARTS = {
    "two fields": ("boundary=bOunD", write_form(DISPOSITION, DISPOSITION, data=b"x")),
    "two fields of other names": (
        "boundary=bOunD",
        write_form(NAMED, DISPOSITION.replace(b"data", b"more"), data=b"x"),
    ),
    "a field of another name": ("boundary=bOunD", write_form(DISPOSITION.replace(b'"data"', b'"file"'))),
    "no name": ("boundary=bOunD", write_form(b"Content-Disposition: form-data\r\n")),
    "two names": ("boundary=bOunD", write_form(DISPOSITION.replace(b'"data"', b'"data"; name="more"'))),
    "no headers": ("boundary=bOunD", write_form(b"")),
    "an encoding": ("boundary=bOunD", write_form(DISPOSITION + b"Content-Transfer-Encoding: base64\r\n")),
    "one header twice": ("boundary=bOunD", write_form(DISPOSITION * 2)),
    "a folded header": ("boundary=bOunD", write_form(DISPOSITION.replace(b"; name", b";\r\n name"))),
    "a header of 3 kB": ("boundary=bOunD", write_form(NAMED.replace(b"png", b"p" * 3000))),
    "line ends of Unix": ("boundary=bOunD", write_form(DISPOSITION).replace(b"\r\n", b"\n")),
    "no end": ("boundary=bOunD", write_form(DISPOSITION, end=b"")),
    "something behind the end": ("boundary=bOunD", write_form(DISPOSITION, end=b"--\r\nx")),
    "something before the form": ("boundary=bOunD", b"x\r\n" + write_form(DISPOSITION)),
    "another boundary": ("boundary=bound", write_form(DISPOSITION)),
    "no boundary": ("charset=utf-8", write_form(DISPOSITION)),
    "two boundaries": ("boundary=a; boundary=bOunD", write_form(DISPOSITION)),
    "a boundary with a space": ("boundary=bO unD", write_form(DISPOSITION, boundary=b"bO unD")),
    "a boundary that is too long": (f"boundary={'b' * 71}", write_form(DISPOSITION, boundary=b"b" * 71)),
    "an empty boundary": ("boundary=", write_form(DISPOSITION, boundary=b"")),
    "nothing": ("boundary=bOunD", b""),
    "hundreds of fields": ("boundary=bOunD", write_form(*[DISPOSITION] * 800, data=b"")),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["at once", "in chunks"])
@pytest.mark.parametrize("form", ACCEPTED_FORMS)
def test_the_one_field_of_a_form_becomes_the_body(
    gateway: Gateway, place: Place, seen: list[Seen], form: str, chunked: bool
) -> None:
    kind, body = ACCEPTED_FORMS[form]
    head = f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\nx-api-key: {place.key()}\r\n"
    head += f"content-type: multipart/form-data; {kind}\r\n"
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    assert gateway.send_raw(f"{head}{length}\r\n\r\n".encode() + sent).status == 200
    assert seen[0].body == PICTURE
    headers = [(name.lower(), value) for name, value in seen[0].headers]
    assert [value for name, value in headers if name == "content-type"] == ["application/octet-stream"]
    assert [value for name, value in headers if name == "content-length"] == [str(len(PICTURE))]
    assert "transfer-encoding" not in dict(headers)


@pytest.mark.parametrize("form", REFUSED_PARTS)
def test_any_other_form_is_refused(gateway: Gateway, place: Place, seen: list[Seen], form: str) -> None:
    kind, body = REFUSED_PARTS[form]
    headers = {"x-api-key": place.key(), "content-type": f"multipart/form-data; {kind}"}
    assert_refused(gateway.send("POST", DIGITS, headers, body), 415, seen)


def test_a_form_to_nowhere_is_not_read(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    headers = {"x-api-key": place.key("both", ("digits", "missing")), "content-type": "multipart/form-data; boundary=x"}
    assert_refused(gateway.send("POST", "/predictions/missing", headers, bytes(BODY_LIMIT)), 404, seen)


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(
    gateway: Gateway, place: Place, seen: list[Seen]
) -> None:
    key = {"x-api-key": place.key()}
    assert_refused(gateway.send("POST", DIGITS, key, b"x" * (BODY_LIMIT + 1)), 413, seen)
    assert gateway.send("POST", DIGITS, key, b"x" * BODY_LIMIT).status == 200
    assert len(seen[0].body) == BODY_LIMIT


@pytest.mark.parametrize("keyed", [True, False])
def test_an_upload_in_chunks_is_cut_off_at_the_limit(
    gateway: Gateway, place: Place, seen: list[Seen], keyed: bool
) -> None:
    """The client never says how much it will send, and never ends."""
    key = f"x-api-key: {place.key()}\r\n" if keyed else ""
    with gateway.connect() as connection:
        connection.sendall(f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n".encode())
        if keyed:
            connection.sendall((b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5)
        assert_refused(read_reply(connection), 413 if keyed else 401, seen)


@pytest.mark.parametrize("keyed", [True, False])
def test_over_http2_a_refusal_arrives_while_uploading(
    gateway: Gateway, place: Place, seen: list[Seen], keyed: bool
) -> None:
    """The gateway answers an upload that never ends; with h2, as httpx goes on sending and fails."""
    headers = [(":method", "POST"), (":path", DIGITS), (":scheme", "https"), (":authority", "localhost")]
    headers += [("x-api-key", place.key())] if keyed else []
    status, body = upload_without_end(gateway, headers)
    assert status == (413 if keyed else 401)
    assert json.loads(body)["reason"] == ("too_many_bytes" if keyed else "unauthenticated")
    assert seen == []


def upload_without_end(gateway: Gateway, headers: list[tuple[str, str]]) -> tuple[int, bytes]:
    """Send zeros over HTTP/2, as many as the gateway takes, until it answers."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, headers)
    status, body = 0, b""
    with gateway.connect(["h2"]) as connection:
        while True:
            with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream is closed: what remains is to read why
                while room := min(client.local_flow_control_window(1), client.max_outbound_frame_size):
                    client.send_data(1, bytes(room))
            connection.sendall(client.data_to_send())
            for event in client.receive_data(connection.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("keyed", [True, False])
def test_curl_sees_the_refusal_of_a_large_upload(
    gateway: Gateway, place: Place, seen: list[Seen], tmp_path: Path, keyed: bool
) -> None:
    upload = tmp_path / "20MB"
    upload.write_bytes(bytes(20_000_000))
    command = ["curl", "-sS", "--http1.1", "--cacert", str(place.directory / "tls" / "ca.pem"), "-X", "POST"]
    command += ["-T", str(upload), f"https://localhost:{gateway.port}{DIGITS}", "-w", "\n%{http_code}"]
    command += ["-H", f"x-api-key: {place.key()}"] if keyed else []
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    body, _, status = result.stdout.rpartition("\n")
    assert status == ("413" if keyed else "401")
    assert json.loads(body)["reason"] == ("too_many_bytes" if keyed else "unauthenticated")
    assert seen == []


@pytest.mark.parametrize("keyed", [True, False])
def test_http_client_sees_the_refusal_of_a_large_upload(
    gateway: Gateway, place: Place, seen: list[Seen], keyed: bool
) -> None:
    """A client that sends everything before it looks at the answer; its send breaks off, the answer is there."""
    headers = {"x-api-key": place.key()} if keyed else {}
    connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=WAIT_S, context=gateway.tls)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        connection.request("POST", DIGITS, bytes(20_000_000), headers)
    response = connection.getresponse()
    assert response.status == (413 if keyed else 401)
    connection.close()
    assert seen == []


def test_large_and_many_headers_are_refused(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    key = f"x-api-key: {place.key()}"
    assert_refused(gateway.send("POST", DIGITS, [key, "x: " + "y" * 20_000]), 431, seen)
    assert_refused(gateway.send("POST", DIGITS, [key, *(f"x{i}: y" for i in range(60))]), 431, seen)


# Rates ----------------------------------------------------------------------------------------------------------------


def test_a_burst_is_cut_off_for_that_client_only(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    brief = {"x-api-key": place.key("brief")}
    replies = [gateway.send("POST", DIGITS, brief, b"x") for _ in range(20)]
    refused = [reply for reply in replies if reply.status == 429]
    assert {reply.status for reply in replies} == {200, 429}
    assert replies[0].status == 200
    assert len(seen) == len(replies) - len(refused)
    assert {(reply.reason, reply.headers["retry-after"]) for reply in refused} == {("rate_limited", "1")}
    assert gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").status == 200


def test_a_second_key_is_no_second_budget(gateway: Gateway, place: Place, seen: list[Seen]) -> None:
    statuses = [gateway.send("POST", DIGITS, {"x-api-key": place.key("slow")}, b"x").status for _ in range(20)]
    assert 429 in statuses


# Failures of the server behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "status"), [(400, 400), (404, 404), (500, 500), (503, 503), (507, 500), (302, 500), (418, 500)]
)
def test_the_servers_own_errors_do_not_leak(gateway: Gateway, place: Place, upstream: int, status: int) -> None:
    place.inference.answer.status = upstream
    place.inference.answer.body = b'{"code": 1, "type": "InternalServerException", "message": "/srv/worker.py line 3"}'
    place.inference.answer.headers["location"] = "http://127.0.0.1:8081/models"
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
    assert_refused(reply, status, [])
    assert "location" not in reply.headers


def test_a_refusal_worded_by_the_handler_passes(gateway: Gateway, place: Place) -> None:
    body = b'{"reason": "too_many_pixels", "message": "The image has more pixels than this model accepts."}'
    place.inference.answer = Answer(422, {"x-garrison-reason": "too_many_pixels"}, body, place.inference.answer.gate)
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
    assert (reply.status, reply.body, reply.headers["x-garrison-reason"]) == (422, body, "too_many_pixels")


@pytest.mark.parametrize("reason", ["Traceback /srv", "x" * 65, ""])
def test_a_reason_that_is_no_code_is_no_reason(gateway: Gateway, place: Place, reason: str) -> None:
    place.inference.answer.status = 500
    place.inference.answer.headers["x-garrison-reason"] = reason
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 500, [])


def test_a_long_error_is_replaced_too(gateway: Gateway, place: Place) -> None:
    place.inference.answer.status = 500
    place.inference.answer.body = b"secret " * 100_000
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 500, [])


def test_a_large_answer_passes(gateway: Gateway, place: Place) -> None:
    place.inference.answer.body = b"x" * 2_000_000
    assert len(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").body) == 2_000_000


def test_a_server_that_does_not_answer_costs_the_contracts_timeout(gateway: Gateway, place: Place) -> None:
    place.inference.answer.gate.clear()
    try:
        assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 504, [])
    finally:
        place.inference.answer.gate.set()


def test_no_server_is_503(place: Place) -> None:
    def point_elsewhere(config: dict[str, Any]) -> None:
        cluster = config["static_resources"]["clusters"][0]
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["pipe"]["path"] = str(place.directory / "nobody.sock")

    gateway = place.start(point_elsewhere)
    try:
        assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 503, [])
    finally:
        gateway.stop()


# Log and admin --------------------------------------------------------------------------------------------------------

LOG_FIELDS = {
    "time", "gate", "event", "client", "model", "method", "path", "protocol", "status", "reason", "detail",
    "duration_ms", "bytes_in", "bytes_out", "request_id",
}  # fmt: skip


def test_every_request_is_logged_and_no_secret_is(place: Place) -> None:
    place.inference.reset()
    gateway = place.start()
    key, bad_key = place.key(), signed_by_another(place)
    try:
        good = gateway.send("POST", DIGITS, {"x-api-key": key}, b"the body")
        gateway.send("POST", f"/models?url=the-query&{'x' * 300}", {"x-api-key": key})
        gateway.send("POST", DIGITS, {"x-api-key": bad_key, "x-garrison-client": "both"}, b"the body")
        gateway.send("POST", "/" + 'a"b' * 100 + "%2F", {"x-garrison-client": "both"})
        lines = gateway.access_log(4)
    finally:
        gateway.stop()
    assert all(set(line) == LOG_FIELDS for line in lines)
    assert [(n["client"], n["model"], n["method"], n["status"], n["reason"]) for n in lines] == [
        ("demo", "digits", "POST", 200, ""),
        ("", "", "POST", 404, "not_found"),
        ("", "digits", "POST", 401, "unauthenticated"),
        ("", "", "POST", 400, "bad_request"),
    ]
    assert lines[0]["request_id"] == good.headers["x-request-id"]
    assert (lines[0]["bytes_in"], lines[0]["bytes_out"]) == (8, 12)
    assert lines[0]["gate"] == "gateway" and lines[0]["event"] == "request"
    assert all(len(line["path"]) <= 100 for line in lines)
    text = gateway.log_path.read_text()
    assert not [secret for secret in (key, bad_key, "the-query", "the body") if secret in text]


def test_the_admin_socket_is_private_and_answers_little(gateway: Gateway) -> None:
    assert gateway.admin.stat().st_mode & 0o777 == 0o600
    for path in ("/quitquitquit", "/config_dump", "/runtime_modify", "/logging", "/memory", "/"):
        assert send_request(gateway.admin, "POST", path, 5).status == 403
    assert gateway.process.poll() is None


def test_old_tls_is_refused(gateway: Gateway) -> None:
    old = ssl.create_default_context(cafile=str(gateway.ca_path))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", gateway.port)) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname="localhost")


def test_a_second_gateway_on_the_same_port_does_not_start(gateway: Gateway, place: Place) -> None:
    config = place.render(gateway.port)
    config["admin"]["address"]["pipe"]["path"] = str(place.directory / "second.sock")
    path = place.directory / "second.json"
    path.write_text(json.dumps(config))
    result = subprocess.run(
        binary.envoy_command(binary.find_envoy(), path), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert result.returncode != 0
    assert "Address already in use" in result.stderr


# Drain ----------------------------------------------------------------------------------------------------------------


def test_draining_lets_requests_in_flight_finish_and_takes_no_new_ones(place: Place) -> None:
    place.inference.reset()
    place.inference.answer.gate.clear()
    gateway = place.start()
    verdicts: list[bool] = []
    try:
        with gateway.connect() as in_flight, gateway.connect() as idle:
            in_flight.sendall(
                f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\nx-api-key: {place.key()}\r\ncontent-length: 1\r\n\r\nx".encode()
            )
            assert place.inference.arrived.wait(WAIT_S)
            drainer = threading.Thread(target=lambda: verdicts.append(drain.drain_envoy(gateway.admin, WAIT_S)))
            drainer.start()
            wait_for_refusal(gateway.port)
            assert drain.count_active(gateway.admin) == 1
            assert verdicts == []
            place.inference.answer.gate.set()
            reply = read_reply(in_flight)
            drainer.join(WAIT_S)
            assert (reply.status, reply.body, reply.headers["connection"]) == (200, b'{"label": 7}', "close")
            assert verdicts == [True]
            idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert read_reply(idle, "GET").headers["connection"] == "close"
        assert gateway.process.poll() is None
    finally:
        gateway.stop()


def wait_for_refusal(port: int) -> None:
    for _ in wait_until(WAIT_S):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return
    raise AssertionError("new connections are still accepted")


def test_draining_gives_up_when_its_time_is_over(place: Place) -> None:
    place.inference.reset()
    place.inference.answer.gate.clear()
    gateway = place.start()
    try:
        with gateway.connect() as in_flight:
            in_flight.sendall(
                f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\nx-api-key: {place.key()}\r\ncontent-length: 1\r\n\r\nx".encode()
            )
            assert place.inference.arrived.wait(WAIT_S)
            assert drain.drain_envoy(gateway.admin, 0.1) is False
    finally:
        place.inference.answer.gate.set()
        gateway.stop()


def test_draining_nothing_cannot_be_decided(tmp_path: Path) -> None:
    with pytest.raises(GarrisonError, match="does not answer"):
        drain.drain_envoy(tmp_path / "nobody.sock", 1)


# The tests can fail ---------------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def remove(config: dict[str, Any]) -> None:
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        full = name if name.startswith("garrison.") else f"envoy.filters.http.{name}"
        kept = [item for item in manager["http_filters"] if item["name"] != full]
        assert len(kept) == len(manager["http_filters"]) - 1
        manager["http_filters"] = kept
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            route.get("typed_per_filter_config", {}).pop(full, None)

    return remove


def test_a_header_check_that_fails_refuses(place: Place, seen: list[Seen]) -> None:
    """Envoy's Lua filter lets a request pass when its script raises; ours must not."""

    def break_script(config: dict[str, Any]) -> None:
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        (lua,) = [item for item in manager["http_filters"] if item["name"] == "garrison.headers"]
        source = lua["typed_config"]["default_source_code"]
        broken = source["inline_string"].replace(
            "local accepted = is_accepted_type(headers)", "local accepted = no_such_function(headers)"
        )
        assert broken != source["inline_string"]
        source["inline_string"] = broken

    place.inference.reset()
    gateway = place.start(break_script)
    try:
        assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 500, seen)
    finally:
        gateway.stop()


def attack_without_a_key(gateway: Gateway, place: Place) -> bool:
    return gateway.send("POST", DIGITS, {}, b"x").status == 200


def attack_another_model(gateway: Gateway, place: Place) -> bool:
    return gateway.send("POST", OTHER, {"x-api-key": place.key()}, b"x").status == 200


def attack_with_a_burst(gateway: Gateway, place: Place) -> bool:
    return all(gateway.send("POST", DIGITS, {"x-api-key": place.key("slow")}, b"x").status == 200 for _ in range(20))


def attack_with_a_large_body(gateway: Gateway, place: Place) -> bool:
    return gateway.send("POST", DIGITS, {"x-api-key": place.key()}, bytes(BODY_LIMIT + 1)).status == 200


def attack_with_a_header(gateway: Gateway, place: Place) -> bool:
    gateway.send("POST", DIGITS, {"x-api-key": place.key(), "explain": "True"}, b"x")
    return ("explain", "True") in place.inference.seen[-1].headers


ATTACKS = [
    ((("jwt_authn"), ("rbac")), attack_without_a_key),
    (("rbac",), attack_another_model),
    (("local_ratelimit",), attack_with_a_burst),
    (("buffer",), attack_with_a_large_body),
    (("garrison.headers",), attack_with_a_header),
]


@pytest.mark.parametrize(("removed", "attack"), ATTACKS, ids=[attack.__name__ for _, attack in ATTACKS])
def test_each_filter_is_what_stops_its_attack(
    running: Gateway, place: Place, removed: tuple[str, ...], attack: Callable[[Gateway, Place], bool]
) -> None:
    def weaken(config: dict[str, Any]) -> None:
        for name in removed:
            without(name)(config)

    place.inference.reset()
    assert not attack(running, place)
    weakened = place.start(weaken)
    try:
        assert attack(weakened, place)
    finally:
        weakened.stop()
