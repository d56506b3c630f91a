"""syslog-ng with a shipped configuration, and an HTTP endpoint that writes down what it is sent.

The endpoint knows nothing of Elasticsearch or Splunk: it answers with whatever status it is told to, and takes nothing
that it does not answer with 200.
"""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.running import free_port

LOGGING = Path(__file__).parents[2] / "config" / "logging"
ADDRESSES = {"elasticsearch": "ELASTICSEARCH_URL", "splunk": "SPLUNK_URL"}
SECRETS = {"ELASTICSEARCH_API_KEY": "a-secret", "SPLUNK_TOKEN": "a-secret"}
STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class Sent:
    """One request as the endpoint got it, and how it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int


@dataclass
class Endpoint:
    """What was sent to it so far; `statuses` are its next answers, then 200."""

    port: int
    sent: list[Sent] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def taken(self) -> list[Sent]:
        return [one for one in self.sent if one.status == http.HTTPStatus.OK]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.endpoint.statuses.pop(0) if self.endpoint.statuses else 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.endpoint.sent.append(Sent(self.path, headers, body, status))
        self.send_response(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@contextlib.contextmanager
def listening(endpoint: Endpoint) -> Iterator[None]:
    """Let the endpoint take connections for as long as the block lasts."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", endpoint.port), type("Handler", (_Handler,), {"endpoint": endpoint})
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Shipper:
    """syslog-ng before one endpoint; `changes` are made to the shipped configuration."""

    def __init__(self, directory: Path, kind: str, changes: dict[str, str] | None = None) -> None:
        self.endpoint, self.logs, self.buffer = Endpoint(free_port()), directory / "logs", directory / "buffer"
        for place in (self.logs, self.buffer):
            place.mkdir()
        text = (LOGGING / f"{kind}.conf").read_text()
        for old, new in {"time-reopen(5)": "time-reopen(1)", **(changes or {})}.items():
            assert old in text, old
            text = text.replace(old, new)
        (directory / "syslog-ng.conf").write_text(text)
        program = shutil.which("syslog-ng", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "syslog-ng is not installed; see CONTRIBUTING.md"
        own = {"-f": "syslog-ng.conf", "-R": "persist", "-c": "control", "-p": "pid"}
        self._command = [program, "-F", *(word for one, name in own.items() for word in (one, str(directory / name)))]
        self._environment = {
            **SECRETS,
            ADDRESSES[kind]: f"http://127.0.0.1:{self.endpoint.port}",
            "GARRISON_LOGS": str(self.logs),
            "GARRISON_LOG_NAMES": "*.jsonl",
            "GARRISON_LOG_BUFFER": str(self.buffer),
        }

    def write(self, lines: list[str], name: str = "log.jsonl") -> None:
        with (self.logs / name).open("a") as log:
            log.writelines(f"{line}\n" for line in lines)

    def buffered_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.buffer.iterdir())

    @contextlib.contextmanager
    def running(self, end: int = signal.SIGTERM) -> Iterator[None]:
        """Run it for as long as the block lasts, and end it by a signal."""
        with subprocess.Popen(self._command, env=self._environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.send_signal(end)
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def read_bulk(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the ids and documents of a request to Elasticsearch's bulk API: two lines each, and a last line end."""
    assert body.endswith(b"\n")
    lines = [json.loads(line) for line in body.splitlines()]
    actions, documents = lines[::2], lines[1::2]
    assert all(action.keys() == {"create"} for action in actions)
    return [(action["create"]["_id"], document) for action, document in zip(actions, documents, strict=True)]


def read_collected(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the times and events of a request to Splunk's collector: an object for each."""
    objects = [json.loads(line) for line in body.splitlines()]
    assert all(one.keys() == {"time", "source", "sourcetype", "event"} for one in objects)
    return [(str(one["time"]), one["event"]) for one in objects]
