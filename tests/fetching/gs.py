"""The part of Google Cloud Storage's JSON interface that reading needs, with generations, on loopback.

The emulator from PyPI keeps one generation of an object and answers every request with it; this one keeps all of them
and answers as the service documents: 404 for a generation that is gone, 412 when it is not the one that must match.
"""

import contextlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Callable[["GsHandler"], bool]


class GsHandler(BaseHTTPRequestHandler):
    """Answer with metadata, bytes or a list, unless the next of `server.faults` answers."""

    protocol_version = "HTTP/1.1"
    server: "GsServer"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        fault = self.server.faults.pop(0) if self.server.faults else None
        with contextlib.suppress(OSError):
            if not (fault and fault(self)):
                self.answer()

    def answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        bucket, _, name = parts.path.partition("/b/")[2].partition("/o")
        if bucket != "models":
            return self.send(404)
        if not name:
            return self.send_list(query.get("prefix", ""))
        name = unquote(name[1:])
        generations = self.server.objects.get(name, {})
        generation = int(query.get("generation", max(generations, default=0)))
        if generation not in generations:
            return self.send(404)
        if int(query.get("ifGenerationMatch", generation)) != generation:
            return self.send(412)
        if query.get("alt") == "media":
            return self.send_bytes(generations[generation])
        return self.send(200, json.dumps(self.describe(name, generation)).encode())

    def describe(self, name: str, generation: int) -> dict[str, Any]:
        data = self.server.objects[name][generation]
        return {"name": name, "generation": str(generation), "size": str(len(data))} | self.server.metadata

    def send_list(self, prefix: str) -> None:
        names = sorted(name for name in self.server.objects if name.startswith(prefix))
        items = [self.describe(name, max(self.server.objects[name])) for name in names]
        self.send(200, json.dumps({"items": items}).encode())

    def send_bytes(self, data: bytes) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self.send(206, part, {"Content-Range": place})

    def send(self, status: int, data: bytes = b"{}", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = {"Content-Type": "application/json"}
        for name, value in (kind | {"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class GsServer(ThreadingHTTPServer):
    """The bucket `models`; `metadata` is added to that of every object."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GsHandler)
        self.objects: dict[str, dict[int, bytes]] = {}
        self.metadata: dict[str, Any] = {}
        self.faults: list[Fault | None] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._next = 1

    def put(self, name: str, data: bytes, *, versioned: bool = True) -> int:
        """Store an object, and return its generation."""
        kept = self.objects.get(name, {}) if versioned else {}
        self._next += 1
        self.objects[name] = kept | {self._next: data}
        return self._next

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what is tested."""
