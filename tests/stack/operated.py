"""`garrison gateway run` in front of the recording server, and the files that an operator changes meanwhile."""

import contextlib
import dataclasses
import json
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from garrison.files import write_atomically
from garrison.gateway.certificates import Certificate, ensure_certificate
from garrison.gateway.envoy import render_envoy
from garrison.gateway.source import GatewaySockets
from garrison.sockets import ADMIN
from stack.gateways import DIGITS, Gateway, Place, Reply, free_port, read_reply, wait_until
from stack.split import Command

WITHIN_S = 10  # it takes two; nothing here waits longer than it has to


class Operated(Gateway):
    """`garrison gateway run`, and the files that its operator changes."""

    def __init__(self, place: Place) -> None:
        self.place, self.port = place, free_port()
        self.run_directory = place.directory / "gw"
        self.file, self.admin = place.directory / "envoy.json", self.run_directory / ADMIN
        self.ca_path = place.directory / "tls" / "ca.pem"
        self.certificate: Certificate | None = None
        self.render()
        self.command = Command(place.directory, "gateway", "gateway", "run", self.file)
        self.command.wait_until_ready()
        self.process = self.command.process
        self.wait_until_ready()

    def render(self, change: Callable[[dict[str, Any]], None] = lambda config: None) -> None:
        """Do what `garrison gateway render` does; `change` may spoil it."""
        source = self.place.source(self.port)
        sockets = GatewaySockets(source.sockets.servers, self.admin)
        certificate = self.certificate or source.certificate
        config = render_envoy(dataclasses.replace(source, sockets=sockets, certificate=certificate))
        change(config)
        write_atomically(self.file, json.dumps(config).encode(), 0o644)

    def ask(self, key: str, path: str = DIGITS, connection: ssl.SSLSocket | None = None) -> Reply:
        with contextlib.ExitStack() as closing:
            used = connection or closing.enter_context(self.connect())
            # Without a body: Envoy closes a connection over which it has refused one.
            used.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\ncontent-length: 0\r\n\r\n".encode())
            return read_reply(used)

    def told(self, event: str) -> list[str]:
        return [one["message"] for one in self.command.events() if one["event"] == event]

    def wait_until_told(self, event: str, words: str, more_than: int = 0) -> str:
        found: list[str] = []
        for _ in wait_until(WITHIN_S):
            found = [sentence for sentence in self.told(event) if words in sentence]
            if len(found) > more_than:
                return found[-1]
        raise AssertionError(f"no {event} with {words!r}: {self.command.said()}")

    def wait_for_status(self, wanted: int, *arguments: Any) -> float:
        """Ask until the answer has this status; return after how many seconds."""
        began = time.monotonic()
        for _ in wait_until(WITHIN_S):
            if self.ask(*arguments).status == wanted:
                return time.monotonic() - began
        raise AssertionError(f"no {wanted}: {self.command.said()}")


def bring_certificate(directory: Path, authority: Path) -> Certificate:
    """Make an operator's certificate in a directory, issued by the development authority of another."""
    if not directory.exists():
        shutil.copytree(authority, directory)
    own = Certificate(None, directory / "server.pem", directory / "server.key")
    renew_certificate(own)
    return own


def renew_certificate(own: Certificate) -> None:
    """Make another certificate and key in the place of these."""
    own.chain_path.unlink()
    own.key_path.unlink()
    ensure_certificate(own.chain_path.parent)
