"""Prometheus and Alertmanager beside what they watch: `garrison serve --monitoring`, on this machine's loopback alone.

Prometheus is told where to ask by a file that is written for the run, and takes the rules of config/prometheus; what
it has seen stays in the state directory, within bounds of time and of bytes. Both ask nobody who he is, as the metrics
themselves do not: whoever can log in here can read them.

One that ends before everything was ready ends the run, as it would every time. Later it is started again and again:
that nobody is watching is bad, but no reason to stop serving, nor to wait for it with everything else for longer than a
minute.
"""

import contextlib
import http
import http.client
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import ConfigError
from garrison.files import make_private_directory, write_atomically
from garrison.gateway.metrics import GATEWAY_PATH, GUARDS_PATH, PATH, SERVERS_PATH
from garrison.gateway.settings import MetricsListener
from garrison.process import Child, describe_exit
from garrison.stack.gateway import ANY_ADDRESSES, check_port
from garrison.stack.part import Lifetime, Part

LOOPBACK = "127.0.0.1"
PROMETHEUS_PORT, ALERTMANAGER_BEHIND = 9090, 3  # 9093, as both have by default
PROMETHEUS, ALERTMANAGER = ("prometheus",), ("prometheus-alertmanager", "alertmanager")  # Debian's name first
RULES, ALERTING = Path("prometheus", "rules.yml"), Path("alertmanager.yml")
SCRAPE_S, SCRAPE_TIMEOUT_S = 5, 4
KEPT_TIME, KEPT_SIZE, KEPT_ALERTS = "15d", "2GB", "120h"
NO_OTHER_SITE = "--web.cors.origin=null^"  # as shipped, a page of any site may read it in a browser on this machine
RESTART_S, MOST_RESTART_S = 1.0, 30.0
WAITED_FOR_S = 60.0
_ASK_TIMEOUT_S = 1


@dataclass(frozen=True)
class Monitoring:
    """Where the settings are, where to keep what is seen, and Prometheus' port; Alertmanager's is three above it."""

    config: Path
    state: Path
    port: int = PROMETHEUS_PORT

    @property
    def alertmanager_port(self) -> int:
        """Alertmanager's port."""
        return self.port + ALERTMANAGER_BEHIND


class MonitoringPart(Part):
    """One of the two: a program of Debian's, its files, and its port."""

    gate = "watch"

    def __init__(self, places: Monitoring, programs: Sequence[str], port: int, lifetime: Lifetime) -> None:
        super().__init__(lifetime)
        self.title = programs[0]
        self._places, self._programs, self._port = places, programs, port
        self._is_ready = False
        self._started_at = 0.0
        self._failures = 0

    def check(self) -> None:
        """Find the program and its settings, and check the port.

        Raises:
            ConfigError: one of them is not there.
        """
        self._program = find_program(self._programs)
        for file in self.files():
            if not file.is_file():
                raise ConfigError(f"{file}: is missing, and --monitoring needs it; take it from Garrison's own config/")
        try:
            check_port(LOOPBACK, self._port)
        except (ConfigError, OverflowError) as error:  # the latter where there is no such port
            advice = f"stop what listens there (systemctl stop {self.title}), or give another --monitoring PORT"
            raise ConfigError(f"{self.title}: {LOOPBACK} port {self._port} cannot be used; {advice}") from error

    def prepare(self, run_directory: Path) -> None:
        """Make the directory for what is seen."""
        self._working_directory = run_directory
        self._data = self._places.state / "monitoring" / self.title
        make_private_directory(self._data.parent)
        make_private_directory(self._data)

    def launch(self) -> Child:
        """Start the program."""
        self._started_at = time.monotonic()
        command = [str(self._program), *self.options(), f"--web.listen-address={LOOPBACK}:{self._port}"]
        command += [f"--web.external-url=http://localhost:{self._port}", "--log.level=warn"]
        return Child(self.title, command, {"LANG": "C.UTF-8"}, self._working_directory, self.sink())

    def files(self) -> list[Path]:
        """Return the settings that it reads."""
        raise NotImplementedError

    def options(self) -> list[str]:
        """Return the options that it has for itself."""
        raise NotImplementedError

    def watch(self) -> bool:
        """Say whether it was ready once, or is not to be waited for any more."""
        if not self._is_ready and is_answering(self._port):
            self._is_ready = True
        elif not self._is_ready and time.monotonic() - self._started_at > WAITED_FOR_S:
            self._is_ready = True
            told = (
                f"{self.title} does not answer since {WAITED_FOR_S:.0f} s; everything else goes on, and is not watched"
            )
            self.log.tell("not_watched", told)
        return self._is_ready

    def replace_dead(self) -> None:
        """Start it again if it has ended: after a second, if it goes on ending after half a minute.

        Raises:
            Undecided: it ended before everything was ready.
        """
        child = self._child
        code = None if child is None else child.exit_code()
        if not self.lifetime.ready.is_set():
            super().replace_dead()
            return
        lived_s = time.monotonic() - self._started_at
        if child is None or code is None or lived_s < min(RESTART_S * 2**self._failures, MOST_RESTART_S):
            return
        self._failures = 0 if lived_s > 2 * MOST_RESTART_S else min(self._failures + 1, 5)
        child.stop(0)
        self.log.tell("restarting", f"{child.name} ended ({describe_exit(code)}); starting it again")
        with contextlib.suppress(ConfigError):  # it may just be replaced by a newer one; tried again later
            self._child = self.launch()

    def address(self) -> str:
        """Return its page."""
        return f"http://localhost:{self._port}"

    def has_callers(self) -> bool:
        """Say no: it asks, and is not asked."""
        return False

    def drain(self) -> None:
        """Wait for nothing."""


class PrometheusPart(MonitoringPart):
    """Prometheus, asking the metrics listener every 5 s."""

    def __init__(self, places: Monitoring, config: dict[str, object], lifetime: Lifetime) -> None:
        super().__init__(places, PROMETHEUS, places.port, lifetime)
        self._config = config

    def files(self) -> list[Path]:
        """Return the rules; the other file is ours."""
        return [self._places.config / RULES]

    def prepare(self, run_directory: Path) -> None:
        """Write where to ask."""
        super().prepare(run_directory)
        self._file = run_directory / "prometheus.yml"
        write_atomically(self._file, json.dumps(self._config).encode(), 0o600)  # all JSON is YAML

    def options(self) -> list[str]:
        """Return where it keeps what, for how long."""
        kept = [f"--storage.tsdb.retention.time={KEPT_TIME}", f"--storage.tsdb.retention.size={KEPT_SIZE}"]
        return [f"--config.file={self._file}", f"--storage.tsdb.path={self._data}", *kept, NO_OTHER_SITE]


class AlertmanagerPart(MonitoringPart):
    """Alertmanager, alone: it looks for no others of its kind."""

    def __init__(self, places: Monitoring, lifetime: Lifetime) -> None:
        super().__init__(places, ALERTMANAGER, places.alertmanager_port, lifetime)

    def files(self) -> list[Path]:
        """Return who is told."""
        return [self._places.config / ALERTING]

    def options(self) -> list[str]:
        """Return where it keeps what, for how long."""
        kept = [f"--storage.path={self._data}", f"--data.retention={KEPT_ALERTS}"]
        return [f"--config.file={self.files()[0]}", *kept, "--cluster.listen-address="]


def make_monitoring(
    places: Monitoring, listener: MetricsListener, servers: int, guards: int, lifetime: Lifetime
) -> list[Part]:
    """Return Alertmanager and Prometheus, for a listener that has the pages of so many servers and guards."""
    config = render_prometheus(places, listener, servers, guards)
    return [AlertmanagerPart(places, lifetime), PrometheusPart(places, config, lifetime)]


def render_prometheus(places: Monitoring, listener: MetricsListener, servers: int, guards: int) -> dict[str, object]:
    """Render Prometheus' own configuration: what it asks, by which rules, and whom it tells."""
    host = ANY_ADDRESSES.get(listener.address, f"[{listener.address}]" if ":" in listener.address else listener.address)
    target = f"{host}:{listener.port}"
    pages = [("garrison-gateway", "gateway", GATEWAY_PATH), ("garrison-envoy", "gateway", PATH)]
    pages += [("garrison-server", f"torchserve-{n}", f"{SERVERS_PATH}{n}") for n in range(servers)]
    pages += [("garrison-guard", f"guard-{n}", f"{GUARDS_PATH}{n}") for n in range(guards)]
    alertmanager = {"static_configs": [{"targets": [f"{LOOPBACK}:{places.alertmanager_port}"]}]}
    return {
        "global": {
            "scrape_interval": f"{SCRAPE_S}s",
            "scrape_timeout": f"{SCRAPE_TIMEOUT_S}s",
            "evaluation_interval": f"{SCRAPE_S}s",
        },
        "rule_files": [str(places.config / RULES)],
        "alerting": {"alertmanagers": [alertmanager]},
        "scrape_configs": [_render_job(job, instance, path, target) for job, instance, path in pages],
    }


def _render_job(job: str, instance: str, path: str, target: str) -> dict[str, object]:
    static = {"targets": [target], "labels": {"instance": instance}}
    return {"job_name": job, "metrics_path": path, "static_configs": [static]}


def find_program(names: Sequence[str]) -> Path:
    """Return the first of these programs that is installed.

    Raises:
        ConfigError: none is.
    """
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return Path(found).absolute()
    advice = "install Debian's packages prometheus and prometheus-alertmanager, or upstream's programs on the PATH"
    raise ConfigError(f"--monitoring: {names[0]} is not installed; {advice}")


def is_answering(port: int) -> bool:
    """Say whether Prometheus or Alertmanager says that it is ready."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
