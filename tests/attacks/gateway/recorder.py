"""The server behind the gateway: it keeps every byte, and reads HTTP as generously as the worst of servers."""

import contextlib
import re
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

ANSWER = b'{"label": 7}'
READY = b'{"ready": true}'
MAX_BYTES = 4 * 2**20
HEALTH_CHECK = b"user-agent: envoy/hc"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """Everything, in small letters: what must not be there is not there in any spelling."""
        return (self.head + self.body).lower()


class Recorder(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An HTTP/1.1 server on a unix socket that answers 200 to all that it takes for a request."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path, body: bytes = ANSWER) -> None:
        super().__init__(str(path), _Connection)
        self.path = path
        self.seen: list[Seen] = []
        self.body = body
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        self.seen.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever is in front may close a connection whenever it likes."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    server: Recorder

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while (seen := read_request(self.rfile)) is not None:
                body = self.server.body
                if HEALTH_CHECK not in seen.raw:
                    self.server.seen.append(seen)
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body)


def read_request(stream: BinaryIO) -> Seen | None:
    """Read what may be a request; None at the end of the connection."""
    lines: list[bytes] = []
    while line := stream.readline(MAX_BYTES):
        if line.strip() or lines:
            lines.append(line)
        if lines and line in (b"\r\n", b"\n"):
            head = b"".join(lines)
            return Seen(head, _find_framing(head)(stream))
    return None


def _find_framing(head: bytes) -> Callable[[BinaryIO], bytes]:
    chunked = re.search(rb"^transfer[-_]encoding[^:\n]*:[^\n]*(\n[ \t][^\n]*)*chunked", head, re.I | re.M) is not None
    length = re.search(rb"^content[-_]length\s*:\s*\+?(\d+)", head, re.I | re.M)
    if chunked:
        return _read_chunks
    return lambda stream: stream.read(min(int(length[1]) if length else 0, MAX_BYTES))


def _read_chunks(stream: BinaryIO) -> bytes:
    raw = b""
    while line := stream.readline(MAX_BYTES):
        raw += line
        size = re.match(rb"\s*(?:0x)?([0-9a-f]{1,6})", line, re.I)
        if size is None or int(size[1], 16) == 0:
            break
        raw += stream.read(int(size[1], 16)) + stream.readline(4)
    while (line := stream.readline(MAX_BYTES)).strip():  # trailers
        raw += line
    return raw
