"""Send one request over many connections for some seconds, as fast as it is answered; count what comes back.

A process of its own (`python -m campaigns.load`), so that the load takes no more of the machine than it must. It
speaks HTTP/1.1 over TLS or a unix socket. An attacker reads as little as it can: answers are not parsed beyond their
length, and a connection that the server closes is opened again.
"""

import argparse
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from pathlib import Path

TIMEOUT_S = 60
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"connection: *close", re.IGNORECASE)


class Load:
    """Connections to one server, the request that they send, and what came back."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        body = options.body.read_bytes()
        head = f"POST /predictions/digits HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        head += "content-type: application/octet-stream\r\n" + (f"x-api-key: {key}\r\n" if (key := _read_key()) else "")
        self.request = head.encode() + b"\r\n" + body
        self.deadline = time.monotonic() + options.seconds
        self.counts: Counter[str] = Counter()
        self.times: list[float] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        """Keep all connections busy until the time is over."""
        threads = [threading.Thread(target=self._repeat, daemon=True) for _ in range(self.options.connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.deadline - time.monotonic()) + TIMEOUT_S)

    def _repeat(self) -> None:
        connection: socket.socket | None = None
        while time.monotonic() < self.deadline:
            began = time.monotonic()
            try:
                connection = connection or self._connect()
                status, closes = exchange(connection, self.request)
            except OSError as error:
                status, closes = type(error).__name__, True
            with self._lock:
                self.counts[status] += 1
                self.times.append(time.monotonic() - began)
            if closes and connection is not None:
                connection.close()
                connection = None

    def _connect(self) -> socket.socket:
        if self.options.unix:
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(TIMEOUT_S)
            plain.connect(self.options.unix)
            return plain
        context = ssl.create_default_context(cafile=self.options.authority)
        raw = socket.create_connection(("127.0.0.1", self.options.port), TIMEOUT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(raw, server_hostname="localhost")


def exchange(connection: socket.socket, request: bytes) -> tuple[str, bool]:
    """Send a request; return the answer's status, and whether the connection is of no further use."""
    broken = False
    try:
        connection.sendall(request)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        broken = True  # refused meanwhile? the answer can still be read
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        if not (more := connection.recv(65_536)):
            raise ConnectionResetError
        data += more
    head = bytes(data[:end])
    length = _LENGTH.search(head)
    wanted = int(length[1]) if length else 0
    while (len(data) - end - 4 < wanted) if length else (_CHUNKED.search(head) and not data.endswith(b"0\r\n\r\n")):
        if not (more := connection.recv(65_536)):
            break
        data += more
    return head.split(b" ", 2)[1].decode(), broken or _CLOSES.search(head) is not None


def main() -> None:
    """Send, and print what came back as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--unix", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--authority", default="")
    load = Load(parser.parse_args())
    load.run()
    times = sorted(load.times) or [0.0]
    used = os.times()
    figures = {
        "statuses": dict(sorted(load.counts.items())),
        "p50_ms": round(times[len(times) // 2] * 1000, 1),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 1),
        "client_cpu_s": round(used.user + used.system, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def _read_key() -> str:
    return os.environ.get("LOAD_KEY", "")


if __name__ == "__main__":
    main()
