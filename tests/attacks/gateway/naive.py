"""A gateway as one writes it on an afternoon: it ends TLS, and passes on what it gets to the server behind it.

Over HTTP/1.1 that is every byte. Over HTTP/2 it is every header, written as HTTP/1.1, as early versions of many proxies
did. What gets through here is what our gateway has to stop.
"""

import contextlib
import socket
import socketserver
import ssl
import threading
from pathlib import Path
from typing import Any

import hpack
from hyperframe import frame

from attacks.gateway.exchange import PREFACE
from garrison.gateway.certificates import Certificate

PATIENCE_S = 1
TO_DROP = {b":scheme", b":method", b":path", b":authority"}


class NaiveGateway(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Run it on a port of its own; use as a context manager."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, certificate: Certificate, upstream: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Client)
        self.upstream = str(upstream)
        self.port = int(self.server_address[1])
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate.chain_path, certificate.key_path)
        self.tls.set_alpn_protocols(["h2", "http/1.1"])

    def __enter__(self) -> "NaiveGateway":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: attackers close connections as they like."""


class _Client(socketserver.BaseRequestHandler):
    server: NaiveGateway

    def handle(self) -> None:
        with (
            contextlib.suppress(OSError, EOFError),
            self.server.tls.wrap_socket(self.request, server_side=True) as client,
            socket.socket(socket.AF_UNIX) as upstream,
        ):
            client.settimeout(PATIENCE_S)
            upstream.settimeout(PATIENCE_S)
            upstream.connect(self.server.upstream)
            if client.selected_alpn_protocol() == "h2":
                _Downgrade(client, upstream).run()
            else:
                answers = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
                answers.start()
                _pump(client, upstream)
                answers.join(PATIENCE_S)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        if not isinstance(target, ssl.SSLSocket):
            target.shutdown(socket.SHUT_WR)


class _Downgrade:
    """HTTP/2 in front, HTTP/1.1 behind, and no question asked in between."""

    def __init__(self, client: socket.socket, upstream: socket.socket) -> None:
        self.client, self.upstream = client, upstream
        self.stream = client.makefile("rb")
        self.decoder, self.encoder = hpack.Decoder(max_header_list_size=2**30), hpack.Encoder()
        self.block, self.fields, self.body = b"", [], b""

    def run(self) -> None:
        self.stream.read(len(PREFACE))
        self.client.sendall(frame.SettingsFrame(0).serialize())
        while head := self.stream.read(9):
            one, length = frame.Frame.parse_frame_header(memoryview(head))
            one.parse_body(memoryview(self.stream.read(length)))
            self.take(one)

    def take(self, one: frame.Frame) -> None:
        if isinstance(one, frame.HeadersFrame | frame.ContinuationFrame):
            self.block += one.data
            if "END_HEADERS" in one.flags:
                self.fields += self.decoder.decode(self.block, raw=True)
                self.block = b""
        if isinstance(one, frame.DataFrame):
            self.body += one.data
        if "END_STREAM" in one.flags:
            self.pass_on(one.stream_id)
            self.fields, self.body = [], b""

    def pass_on(self, stream: int) -> None:
        fields = dict(self.fields)
        first = b" ".join([fields.get(b":method", b"GET"), fields.get(b":path", b"/"), b"HTTP/1.1"])
        lines = [b"%b: %b" % (name, value) for name, value in self.fields if name not in TO_DROP]
        if not {b"content-length", b"transfer-encoding"} & set(fields):
            lines.append(b"content-length: %d" % len(self.body))
        self.upstream.sendall(b"\r\n".join([first, *lines, b"", b""]) + self.body)
        self.upstream.recv(65_536)
        head = frame.HeadersFrame(
            stream, self.encoder.encode([(":status", "200")]), flags=["END_HEADERS", "END_STREAM"]
        )
        self.client.sendall(head.serialize())
