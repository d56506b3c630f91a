"""Envoy as a part of a run: a rendered configuration enters, a TCP port answers until the run is told to stop.

Imports nothing that only a model server or admission has: in a container of its own it is all that runs.
"""

import contextlib
import http
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from garrison.errors import ConfigError, GarrisonError, Undecided
from garrison.gateway import admin
from garrison.gateway.binary import envoy_command, find_envoy, validate_envoy
from garrison.gateway.certificates import Certificate, ensure_certificate
from garrison.gateway.drain import drain_envoy
from garrison.gateway.operator_certificate import WARN_BEFORE, check_operator_certificate
from garrison.gateway.rendered import Rendered, find_tls, list_places, name_servers, read_rendered
from garrison.process import Child
from garrison.sockets import GATEWAY_WATCH
from garrison.stack.audited import AuditedLog
from garrison.stack.budget import BudgetChild
from garrison.stack.gateway_page import (
    REASONS,
    Remembered,
    find_certificate_ends,
    measure_budgets,
    measure_ends,
    measure_servers,
)
from garrison.stack.part import Lifetime, Part
from garrison.stack.reload import Reload
from garrison.unix_http import Page, UnixServer
from garrison.watch import families
from garrison.watch.answers import Answers
from garrison.watch.page import CONTENT_TYPE, write_page
from garrison.watch.series import Series

THREADS = 2
CHECK_CERTIFICATE_S = 3600
LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%e%z","gate":"gateway","event":"log","level":"%l","message":"%j"}'
ANY_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - to say where it is reached, not to bind it


class GatewayPart(Part):
    """Envoy with one configuration file, and what that file becomes while it runs."""

    title, gate = "the gateway", "gateway"

    def __init__(self, config_path: Path, lifetime: Lifetime, audit: Path | None = None) -> None:
        super().__init__(lifetime)
        self._audit = audit  # where it is written down which configurations came in force
        self.config_path = config_path.absolute()
        self.rendered: Rendered | None = None
        self.budget = BudgetChild(lifetime)
        self._certificate_checked = time.monotonic()
        self._answers = Answers(REASONS)
        self._listener: UnixServer | None = None
        self.keys: Remembered[dict[str, float]] | None = None  # where it is known which keys were issued

    def check(self) -> None:
        """Read the configuration, and check the port and the certificate.

        Raises:
            ConfigError: the file is not a gateway's, the port is taken, or the certificate cannot be served.
        """
        rendered = self.rendered = read_rendered(self.config_path)
        for place in list_places(rendered.config):
            check_port(*place)
        self.check_certificate(rendered.certificate)

    def check_certificate(self, certificate: Certificate) -> None:
        """Check the operator's certificate, or make a development certificate.

        Raises:
            ConfigError: it cannot be served.
        """
        if certificate.ca_path is not None:
            ensure_certificate(certificate.chain_path.parent)
            return
        left = check_operator_certificate(certificate) - datetime.now(UTC)
        if left < WARN_BEFORE:
            told = f"{certificate.chain_path}: expires in {left.days} days; renew it"
            self.log.tell("certificate_expires", told)

    def _renew_development_certificate(self) -> None:
        """Do from time to time what a start does; a new file is then taken over like any other."""
        now, certificate = time.monotonic(), self._known().certificate
        if certificate.ca_path is None or now - self._certificate_checked < CHECK_CERTIFICATE_S:
            return
        self._certificate_checked = now
        with contextlib.suppress(ConfigError):  # the one that is there goes on
            ensure_certificate(certificate.chain_path.parent)

    def prepare(self, run_directory: Path) -> None:
        """Let Envoy check the configuration.

        Raises:
            ConfigError: Envoy is missing, or refuses it.
        """
        self._envoy = find_envoy()
        self._working_directory = run_directory
        validate_envoy(self._envoy, self.config_path)
        log = AuditedLog(self.log, self._audit)
        self.reload = Reload(
            self.config_path, run_directory, self._envoy, self.check_certificate, self.budget.follow, log
        )
        self._bootstrap = self.reload.begin(self._known())
        log.append("configuration_begun", f"{self.config_path}: in force ({self._known().digest})")

    def start(self) -> None:
        """Listen for who asks what is counted, and start Envoy."""
        known = self._known()
        self._answers.know(known.models, known.clients)
        self._listener = UnixServer(known.admin.with_name(GATEWAY_WATCH), self._render_metrics)
        super().start()

    def launch(self) -> Child:
        """Start Envoy, and before it what counts for it."""
        self.budget.begin(self._known().budgets, self._known().admin.parent)
        command = [*envoy_command(self._envoy, self._bootstrap), "--concurrency", str(THREADS)]
        command += ["--log-format", LOG_FORMAT]
        return Child("Envoy", command, {"LANG": "C.UTF-8"}, self._working_directory, self.sink())

    def watch(self) -> bool:
        """Take over a changed configuration, and say whether connections are accepted."""
        if self.lifetime.ready.is_set() and self.is_running():
            self._renew_development_certificate()
            self.reload.look()
            self._follow(self.reload.rendered)
        known = self._known()
        return self.lifetime.ready.is_set() or (self.budget.is_ready() and is_listening(known.address, known.port))

    def _follow(self, rendered: Rendered) -> None:
        before, self.rendered = self._known(), rendered
        if (before.models, before.clients) != (rendered.models, rendered.clients):
            self._answers.know(rendered.models, rendered.clients)

    def sink(self) -> Callable[[bytes], None]:
        """Return what takes Envoy's lines: those of its access log are counted."""
        relay = super().sink()

        def take(line: bytes) -> None:
            self._answers.count_line(line)
            relay(line)

        return take

    def _render_metrics(self, _: str) -> Page:
        return Page(http.HTTPStatus.OK, CONTENT_TYPE, write_page({**self._answers.counts(), **dict(self._measure())}))

    def _measure(self) -> Iterator[tuple[Series, float]]:
        known = self._known()
        yield (families.GATEWAY_SOUND.name, ()), not self.reload.problem
        for part, restarts in (("envoy", self.restarts), ("budgets", self.budget.restarts)):
            yield (families.RESTARTS.name, (part,)), restarts
        yield (families.LOG_CUT.name, (self.gate,)), self.log.cut[self.gate]
        yield from measure_servers(known.admin, name_servers(known.config))
        yield from measure_budgets(known.budgets, known.admin.parent)
        ends = find_certificate_ends(find_tls(known.config))
        yield from measure_ends(ends, {} if self.keys is None else self.keys.get(), known.clients)

    def replace_dead(self) -> None:
        """Start Envoy again if it has ended, and what counts for it.

        Raises:
            Undecided: Envoy ends too often.
        """
        self.budget.replace_dead()
        super().replace_dead()

    def stop(self) -> None:
        """End Envoy, then what counts for it."""
        super().stop()
        self.budget.stop()
        if self._listener is not None:
            self._listener.close()

    def pids(self) -> list[int]:
        """Return the processes' ids."""
        return super().pids() + self.budget.pids()

    def address(self) -> str:
        """Return the address for clients on this machine."""
        known = self._known()
        host = ANY_ADDRESSES.get(known.address, f"[{known.address}]" if ":" in known.address else known.address)
        return f"https://{host}:{known.port}"

    def has_callers(self) -> bool:
        """Say whether there may be requests in flight."""
        return self.lifetime.ready.is_set() and self.is_running()

    def drain(self) -> None:
        """Refuse new connections, and wait for the requests in flight."""
        if not self.is_running():
            return
        longest = self._known().longest_s
        try:
            finished = drain_envoy(self._known().admin, longest)
        except GarrisonError as error:  # Envoy may be dying already; everything is stopped all the same
            self.log.tell("drain_failed", f"the gateway could not be drained: {error}")
            return
        if not finished:
            self.log.tell("drain_timeout", f"requests were still running after {longest} s; they are cut off")

    def has_servers(self) -> bool:
        """Say whether Envoy knows a server that takes requests."""
        with contextlib.suppress(Undecided):
            return admin.count_servers(self._known().admin) > 0
        return False

    def _known(self) -> Rendered:
        if self.rendered is None:
            raise ConfigError("the gateway's configuration was not read")
        return self.rendered


def check_port(address: str, port: int) -> None:
    """Check that the gateway's address and port are free.

    Raises:
        ConfigError: something listens there already, or this user may not use it.
    """
    with socket.socket(_family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            advice = "give another --port, or another address in gateway.yaml"
            raise ConfigError(f"{address} port {port} cannot be used ({error.strerror}); {advice}") from error


def is_listening(address: str, port: int) -> bool:
    """Say whether somebody accepts connections on the gateway's port."""
    with socket.socket(_family(address)) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0  # 0.0.0.0 and :: connect to this machine


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
