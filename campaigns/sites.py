"""A gateway whose operator changes everything: before one server that records, or before two TorchServes."""

import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import httpx
from cryptography import x509

from attacks.catalogue import sample_digit
from garrison.gateway.certificates import Certificate, ensure_certificate
from stack.gateways import open_place
from stack.operated import Operated, bring_certificate, renew_certificate
from stack.split import SplitStack

PATH = "/predictions/digits"
NEW_PATH = "/predictions/faces"
RECORDED_BODY = b"x"
CLIENT = "  {name}: {{models: [{models}], requests_per_second: 1000, burst: 5000}}\n"
OLD, NEW, NEW_DECIMALS = "decimals: 4", "decimals: 2", 2  # a version is told by how many decimals it gives
SERVERS = ("one", "two")
COUNTED_IN_S = 2  # until the gateway sends a server requests
GIVE_UP_S = 30.0
POLL_S = 0.01
EVENTS = ("configuration_reloaded", "configuration_refused", "configuration_failed", "restart_needed", "restarting")


class Site(Protocol):
    """What a campaign changes, and how it asks."""

    keys: Path
    body: bytes
    new_path: str
    port: int
    authority: Path

    def write_clients(self, *names: str) -> None:
        """List these clients."""

    def render(self) -> None:
        """Write the configuration anew."""

    def replace_certificate(self) -> None:
        """Put another certificate and key in the place of those that are served."""

    def write_rubbish(self) -> None:
        """Write a configuration that is none."""

    def bring_new(self) -> None:
        """Bring a new version, or a model."""

    def is_new(self, answer: httpx.Response) -> bool:
        """Say whether an answer at `new_path` is of what was brought."""

    def events(self) -> list[dict[str, Any]]:
        """Return the gateway's log."""


def connect(site: Site, *, h2: bool) -> httpx.Client:
    """Return a client that trusts the site's authority only."""
    trust = ssl.create_default_context(cafile=str(site.authority))
    return httpx.Client(base_url=f"https://127.0.0.1:{site.port}", http1=not h2, http2=h2, verify=trust, timeout=30)


def read_serial(site: Site) -> int:
    """Return the serial number of the certificate that is served."""
    pem = ssl.get_server_certificate(("127.0.0.1", site.port), timeout=30)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def count_events(site: Site) -> dict[str, int]:
    """Return how often the gateway's log tells of a reload, or of something wrong."""
    found = Counter(event["event"] for event in site.events())
    return {name: found[name] for name in EVENTS}


class RecordedSite:
    """`garrison gateway run`, before a server that records."""

    def __init__(self, gateway: Operated) -> None:
        self._gateway = gateway
        self.keys, self.body, self.new_path = gateway.place.directory / "keys", RECORDED_BODY, NEW_PATH
        self.port, self.authority = gateway.port, gateway.ca_path
        self._own = bring_certificate(gateway.place.directory / "own", gateway.place.directory / "tls")
        gateway.certificate = self._own

    @classmethod
    @contextlib.contextmanager
    def opened(cls, directory: Path) -> Iterator["RecordedSite"]:
        """Start it."""
        clients = "clients:\n" + CLIENT.format(name="demo", models="digits")
        with open_place(directory, clients=clients, models=("digits",)) as place:
            gateway = Operated(place)
            try:
                site = cls(gateway)
                before = read_serial(site)
                site.render()
                wait_until(lambda: read_serial(site) != before)
                yield site
            finally:
                gateway.command.stop()

    def write_clients(self, *names: str) -> None:
        """List these clients."""
        entries = (CLIENT.format(name=name, models="digits, faces") for name in names)
        self._gateway.place.clients = "clients:\n" + "".join(entries)

    def render(self) -> None:
        """Write the configuration anew."""
        self._gateway.render()

    def replace_certificate(self) -> None:
        """Write the key, and a moment later the chain."""
        renew_certificate(self._own)

    def write_rubbish(self) -> None:
        """Cut the file off."""
        self._gateway.file.write_bytes(self._gateway.file.read_bytes()[:-100])

    def bring_new(self) -> None:
        """Admit another model: a recording server has no versions."""
        self._gateway.place.models = ("digits", "faces")
        self.render()

    def is_new(self, answer: httpx.Response) -> bool:
        """Say whether the model is there."""
        return answer.status_code == HTTPStatus.OK

    def events(self) -> list[dict[str, Any]]:
        """Return the gateway's log."""
        return self._gateway.command.events()


class RolledSite:
    """`garrison gateway run`, before two servers of the digits."""

    def __init__(self, stack: SplitStack, own: Certificate) -> None:
        self._stack, self._own = stack, own
        self.keys, self.body, self.new_path = stack.place.state / "keys", sample_digit(), PATH
        self.port, self.authority = stack.target.port, own.chain_path.parent / "ca.pem"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, _: Path) -> Iterator["RolledSite"]:
        """Start it, in a directory of its own: sockets lie in it."""
        with SplitStack.prepared() as stack:
            authority = stack.directory / "authority"
            ensure_certificate(authority)
            own = bring_certificate(stack.directory / "own", authority)
            settings = stack.place.config / "gateway.yaml"
            named = f"tls:\n  certificate: {own.chain_path}\n  key: {own.key_path}\n"
            settings.write_text(settings.read_text().replace("tls:\n", named, 1))
            site = cls(stack, own)
            site.write_clients("demo")
            stack.admit("1")
            for name in SERVERS:
                stack.start_server(name)
            site.render()
            for command in (*stack.commands.values(), stack.start_gateway()):
                command.wait_until_ready()
            stack.target.authority = site.authority
            wait_until(stack.place.is_ready)
            time.sleep(COUNTED_IN_S)
            yield site

    def write_clients(self, *names: str) -> None:
        """List these clients."""
        entries = (CLIENT.format(name=name, models="digits") for name in names)
        (self._stack.place.config / "clients.yaml").write_text("clients:\n" + "".join(entries))

    def render(self) -> None:
        """Run the command."""
        self._stack.render(*SERVERS)

    def replace_certificate(self) -> None:
        """Write the key, and a moment later the chain."""
        renew_certificate(self._own)

    def write_rubbish(self) -> None:
        """Cut the file off."""
        self._stack.file.write_bytes(self._stack.file.read_bytes()[:-100])

    def bring_new(self) -> None:
        """Admit version 2, and start one server after the other again."""
        self._stack.admit("2", {OLD: NEW})
        self.render()
        for name in SERVERS:
            self._stack.commands[name].stop()
            self._stack.start_server(name).wait_until_ready()
            time.sleep(COUNTED_IN_S)

    def is_new(self, answer: httpx.Response) -> bool:
        """Say whether the scores have as many decimals as the new version's."""
        if answer.status_code != HTTPStatus.OK:
            return False
        return max(len(str(score).partition(".")[2]) for score in answer.json().values()) <= NEW_DECIMALS

    def events(self) -> list[dict[str, Any]]:
        """Return the gateway's log."""
        return self._stack.commands["gateway"].events()


def wait_until(happened: Callable[[], bool]) -> float:
    """Wait until something happens; return after how many seconds, or GIVE_UP_S if it does not."""
    began = time.monotonic()
    while time.monotonic() - began < GIVE_UP_S:
        if happened():
            return time.monotonic() - began
        time.sleep(POLL_S)
    return GIVE_UP_S
