"""A made-up day in a real Prometheus: two models, four clients, an attack in the afternoon, inputs that drift.

Every family that Garrison counts has series here, so a question that gets no answer from it is a wrong question.
"""

import contextlib
import itertools
import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from garrison.errors import Undecided
from garrison.watch.families import COUNTER, FAMILIES, HISTOGRAM, SECOND_BUCKETS, Family
from garrison.watch.seeing.asking import Site, ask
from stack.running import free_port

DAY_S = 86_400
COARSE_S, FINE_S, FINE_FOR_S = 300, 15, 900  # the last minutes are as dense as a real scrape
START_TIMEOUT_S = 30
FIRED = "/api/v1/query"
ALERT = "GarrisonCertificateExpiring"
CONFIG = "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
RULES = f"""
groups:
  - name: always
    rules:
      - alert: {ALERT}
        expr: vector(1)
        labels: {{severity: ticket}}
        annotations: {{summary: "It is on.\\e[2J"}}
"""
MODELS = {"digits": 1.0, "scenes": 0.35}
CLIENTS = {"alice": 0.6, "bob": 0.3, "carol": 0.1, "none": 0.05}
GATEWAY, SERVER, GUARD = "garrison-gateway", "garrison-server", "garrison-guard"
REASONS = {"gateway": ("rate_limited", "unauthenticated", "not_found"), "contract": ("broken_image", "too_many_pixels")}
VALUES: Mapping[str, tuple[str, ...]] = {  # of labels, wherever a family has them
    "class": ("2xx", "4xx", "5xx"),
    "stage": ("closing", "loading", "serving"),
    "part": ("landlock", "limits", "network", "process", "seccomp"),
    "step": ("admit", "infer", "present"),
    "protocol": ("rest", "grpc"),
    "syscall": ("execve", "socket"),
    "setting": ("landlock", "seccomp"),
    "feature": ("image.brightness", "image.contrast"),
    "bin": tuple(map(str, range(5))),
    "server": ("torchserve-0", "guard-0"),
    "certificate": ("server", "client_authority"),
    "client": tuple(CLIENTS),
    "model": tuple(MODELS),
}
SHARES = {"2xx": 0.96, "4xx": 0.035, "5xx": 0.005}
Day = np.ndarray
CATALOGUE = {family.name: family for family in FAMILIES}


@dataclass(frozen=True)
class Moments:
    """When samples were taken, in seconds since the epoch; `day` goes from 0 to 1."""

    times: np.ndarray

    @property
    def day(self) -> np.ndarray:
        return (self.times - self.times[0]) / (self.times[-1] - self.times[0])

    def add_up(self, rate: np.ndarray) -> np.ndarray:
        """Return what a counter says whose rate, a second, this is."""
        return np.floor(np.concatenate([[0.0], np.cumsum(rate[1:] * np.diff(self.times))]))


def write_day(file: Path, end_s: float) -> None:
    """Write a day of samples as OpenMetrics, which promtool takes."""
    coarse = np.arange(end_s - DAY_S, end_s - FINE_FOR_S, COARSE_S)
    moments = Moments(np.concatenate([coarse, np.arange(end_s - FINE_FOR_S, end_s + 1, FINE_S)]))
    made = (one for family in CATALOGUE.values() for one in _make_series(family, moments))
    with file.open("w") as out:
        for name, labels, values in (*made, *_make_prometheus_own(moments)):
            head = name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
            pairs = zip(moments.times, values, strict=True)
            out.writelines(f"{head} {value:.12g} {at:.0f}\n" for at, value in pairs if not math.isnan(value))
        out.write("# EOF\n")


def _make_series(family: Family, moments: Moments) -> Iterator[tuple[str, dict[str, str], Day]]:
    job = SERVER
    if family.name.startswith(("garrison_gateway_", "garrison_launcher_")):
        job = GATEWAY
    elif family.name.startswith("garrison_guard_"):
        job = GUARD
    own = {"job": job, "instance": job.removeprefix("garrison-")}
    for values in itertools.product(*(_list_values(family, label) for label in family.labels)):
        labels = dict(zip(family.labels, values, strict=True))
        if family.kind == HISTOGRAM:
            yield from _make_histogram(family, labels, own, moments)
        elif family.kind == COUNTER:
            yield family.name, labels | own, moments.add_up(_rate(family.name, labels, moments.day))
        else:
            yield family.name, labels | own, _level(family.name, labels, moments)


def _list_values(family: Family, label: str) -> tuple[str, ...]:
    if label == "reason":
        return REASONS["gateway" if "gateway" in family.name else "contract"]
    return VALUES.get(label, ("other",))


def _busy(day: Day) -> Day:
    """Return requests a second: little at night, most at noon, and a burst."""
    return 2 + 10 * np.exp(-(((day - 0.5) / 0.18) ** 2)) + 8 * np.exp(-(((day - 0.72) / 0.02) ** 2))


def _attack(day: Day) -> Day:
    return np.exp(-(((day - 0.72) / 0.015) ** 2))


def _rate(name: str, labels: Mapping[str, str], day: Day) -> Day:
    share = MODELS.get(labels.get("model", ""), 1.0) * CLIENTS.get(labels.get("client", ""), 1.0)
    rate = _busy(day) * share * SHARES.get(labels.get("class", ""), 1.0)
    if labels.get("class") == "4xx":
        rate = rate + 2 * _attack(day) * share
    if "refusals" in name:
        rate = 0.02 * _busy(day) + 3 * _attack(day) * (labels.get("reason") in ("unauthenticated", "broken_image"))
    if name.endswith(("attempts_total", "probes_total")):
        rate = 0.05 * _attack(day)
    if name.endswith(("violations_total", "ended_total", "restarts_total")) or "admission" in name:
        rate = 0.001 * _attack(day)
    return rate


def _level(name: str, labels: Mapping[str, str], moments: Moments) -> Day:
    day = moments.day
    if name.endswith("_timestamp_seconds"):
        return np.full_like(day, moments.times[-1] + 20 * DAY_S)
    if name.endswith("_drift_ratio"):
        high = labels.get("feature") == "image.brightness" and labels.get("model") == "scenes"
        return 0.03 + 0.02 * np.sin(day * 9) + (0.5 * np.clip(day - 0.6, 0, 0.4) / 0.4 if high else 0)
    if name.endswith("_unsafe"):
        return np.zeros_like(day)
    if name.endswith("_used_ratio"):
        return CLIENTS.get(labels.get("client", ""), 0.1) * day
    if name.endswith("_bytes"):
        return 3e8 + 2e7 * np.sin(day * 5)
    if name == "garrison_cell_workers":
        return np.full_like(day, 2.0 if labels.get("stage") == "serving" else 0.0)
    return np.ones_like(day)


def _make_histogram(
    family: Family, labels: Mapping[str, str], own: Mapping[str, str], moments: Moments
) -> Iterator[tuple[str, dict[str, str], Day]]:
    rate, bounds = _rate(family.name, labels, moments.day), family.buckets or SECOND_BUCKETS
    middle = math.log(bounds[len(bounds) // 3])
    slow = 1 + 1.5 * _attack(moments.day)
    for bound in bounds:
        below = 1 / (1 + np.exp(-2.2 * (math.log(bound) - middle - np.log(slow))))
        yield f"{family.name}_bucket", {**labels, "le": f"{float(bound)}", **own}, moments.add_up(rate * below)
    count = moments.add_up(rate)
    yield f"{family.name}_bucket", {**labels, "le": "+Inf", **own}, count
    yield f"{family.name}_count", {**labels, **own}, count
    yield f"{family.name}_sum", {**labels, **own}, count * math.exp(middle)


def _make_prometheus_own(moments: Moments) -> Iterator[tuple[str, dict[str, str], Day]]:
    for job in (GATEWAY, SERVER, GUARD):
        yield "up", {"job": job, "instance": job.removeprefix("garrison-")}, np.ones_like(moments.day)
    fired = (("GarrisonManagementAttempt", "page", 0.70, 0.76), ("GarrisonInputDrift", "ticket", 0.82, 1.0))
    for name, severity, start, end in fired:
        on = np.where((moments.day >= start) & (moments.day <= end), 1.0, np.nan)
        yield "ALERTS", {"alertname": name, "alertstate": "firing", "severity": severity}, on


@contextlib.contextmanager
def open_prometheus(directory: Path) -> Iterator[Site]:
    """Run a Prometheus in an empty directory, with a day that ends now and one alert that fires now."""
    data = directory / "data"
    data.mkdir()
    write_day(directory / "day.om", time.time())
    run_tool("tsdb", "create-blocks-from", "openmetrics", directory / "day.om", data)
    (directory / "rules.yml").write_text(RULES)
    (directory / "prometheus.yml").write_text(CONFIG)
    site = Site("http", "127.0.0.1", free_port())
    options = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={data}"]
    command = [find_program("prometheus"), *options, f"--web.listen-address={site.host}:{site.port}"]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until_ready(site, process, directory / "log", ALERT)
            yield site
        finally:
            process.terminate()


def wait_until_ready(site: Site, process: "subprocess.Popen[bytes]", log: Path, alert: str = "") -> None:
    """Wait until Prometheus or an Alertmanager says that it is ready, and has fired an alert."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(Undecided):
            question = {"query": f"ALERTS{{alertname={json.dumps(alert)}}}"}
            if ask(site, "/-/ready").status == 200 and (not alert or alert.encode() in ask(site, FIRED, question).body):
                return
        time.sleep(0.05)
    raise AssertionError(f"{site} is not ready:\n{log.read_text()}")


def find_program(name: str) -> str:
    """Return where a program of Debian's is, which these tests need."""
    found = shutil.which(name)
    assert found, f"{name} is not installed; it is in Debian's package prometheus"
    return found


def run_tool(*arguments: object) -> None:
    """Run promtool."""
    command = [find_program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
