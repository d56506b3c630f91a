"""Real servers on loopback: an https server that can be told to misbehave, and a relay that cuts connections."""

import contextlib
import datetime
import ipaddress
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Fault = Callable[["Handler"], bool]  # says whether it answered; otherwise the request is answered as usual


class Handler(BaseHTTPRequestHandler):
    """Serve `server.files` with ranges and conditions, unless the next of `server.faults` answers."""

    protocol_version = "HTTP/1.1"
    server: "WebServer"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        fault = self.server.faults.pop(0) if self.server.faults else None
        with contextlib.suppress(OSError):
            if not (fault and fault(self)):
                self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        if path not in self.server.files:
            return self.send(404)
        data, tag = self.server.files[path], self.server.tags.get(path)
        if self.headers.get("If-Match", tag) != tag:
            return self.send(412)
        asked = self.headers.get("Range", "") if self.server.ranges else ""
        if not asked:
            return self.send(200, data, tag)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.send(206, part, tag, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"})
        return None

    def send(
        self, status: int, data: bytes = b"", tag: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_head(status, {"Content-Length": str(len(data))} | ({"ETag": tag} if tag else {}) | (headers or {}))
        self.wfile.write(data)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (self.server.headers | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class WebServer(ThreadingHTTPServer):
    """An https server for `localhost`; the certificate to trust stands in `authority`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, directory: Path, name: str = "localhost", handler: type[BaseHTTPRequestHandler] = Handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.authority = make_certificate(directory, name)
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.faults: list[Fault | None] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ranges = True
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.authority)

    @property
    def host(self) -> str:
        return f"localhost:{self.server_port}"

    def put(self, path: str, data: bytes, tag: str | None = '"one"') -> str:
        """Serve a file, and return its URL."""
        self.files[path] = data
        self.tags.pop(path, None)
        if tag:
            self.tags[path] = tag
        return f"https://{self.host}{path}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread."""
        with contextlib.suppress(OSError), self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what is tested."""


@contextlib.contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server run in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(directory: Path, name: str) -> Path:
    """Write a key and a self-signed certificate for a host name or address to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    common = x509.NameAttribute(NameOID.COMMON_NAME, name)
    subject = x509.Name([common, x509.NameAttribute(NameOID.SERIAL_NUMBER, secrets.token_hex(8))])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path


class Relay:
    """Pass connections on to a server, and cut one after so many bytes of replies."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_after: int | None = None  # bytes of replies from now on; then it is None again
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server:
            asking = threading.Thread(target=_copy, args=(client, server), daemon=True)
            asking.start()
            with contextlib.suppress(OSError):
                while chunk := server.recv(65536):
                    if self.cut_after is not None:
                        client.sendall(chunk[: self.cut_after])
                        self.cut_after -= len(chunk)
                        if self.cut_after <= 0:
                            self.cut_after = None
                            break
                    else:
                        client.sendall(chunk)
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            asking.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)


def refuse_the_network(monkeypatch: Any) -> list[Any]:
    """Let no connection leave the machine; the list that comes back holds whoever was to be asked."""
    asked: list[Any] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
            asked.append(address)
            raise OSError(101, "Network is unreachable")
        connect(self, address)

    def checked_resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        if str(host) not in ("localhost", "127.0.0.1", "::1", "None"):
            asked.append(host)
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket.socket, "connect", checked_connect)
    monkeypatch.setattr(socket, "getaddrinfo", checked_resolve)
    return asked
