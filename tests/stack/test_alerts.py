"""`garrison serve --monitoring`, as it ships: what is done to a running stack is told, by Prometheus and Alertmanager.

All causes at once, and then each alert is waited for; what needs a past, or another stack, is the campaign `alerts`.
"""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from campaigns.causes import Scene, ask_for_management, break_a_file, guess_keys, use_a_budget
from campaigns.prometheus import Prometheus
from garrison.gateway.certificates import ensure_certificate
from garrison.gateway.clients import make_scopes
from garrison.gateway.keys import issue_key
from garrison.stack.monitoring import ALERTMANAGER_BEHIND
from stack.observing import wait_for
from stack.running import DIGITS, RunningStack, free_monitoring_port, free_port, pack_digits

CLIENTS = """\
clients:
  demo: {models: [digits], requests_per_second: 100, burst: 100}
  tester: {models: [digits], requests_per_second: 1000, burst: 1000}
  counted: {models: [digits], requests_per_second: 100, burst: 100, queries_per_day: 20}
"""
FOR_A_YEAR = timedelta(days=365)
WITHIN_S = 60


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningStack, Prometheus]]:
    """The digits, with a certificate that ends in ten days; the key of `demo` ends in one."""
    prometheus = Prometheus(free_monitoring_port())
    models = pack_digits(tmp_path_factory.mktemp("watched") / "models")
    stack = RunningStack(models, settings=f"metrics: {{port: {free_port()}}}\n")
    stack.options += ["--monitoring", prometheus.port]
    (stack.config / "clients.yaml").write_text(CLIENTS)
    for client in ("tester", "counted"):
        token = issue_key(stack.state / "keys", client, make_scopes(["digits"]), FOR_A_YEAR).token
        stack.target.keys[client] = token
    ensure_certificate(stack.state / "certificates", datetime.now(UTC) - timedelta(days=20))
    with stack:
        wait_for(lambda: len(prometheus.query("up == 1")) == 3, "every page was asked for once")
        yield stack, prometheus


@pytest.fixture(scope="module")
def alarmed(watched: tuple[RunningStack, Prometheus]) -> Prometheus:
    """What is told after all of it has happened."""
    stack, prometheus = watched
    scene = Scene(stack, {"digits": [next(DIGITS.glob("samples/*.png")).read_bytes()] * 20})
    ask_for_management(scene)
    use_a_budget(scene)
    scene.send("digits", [b"no picture"] * 80)
    guess_keys(scene)
    break_a_file(scene)
    return prometheus


@pytest.mark.parametrize(
    "alert",
    [
        "GarrisonManagementAttempt",
        "GarrisonRefusalBurst",
        "GarrisonClientErrors",
        "GarrisonModelErrors",
        "GarrisonBudgetNearlyUsed",
        "GarrisonConfigurationRefused",
        "GarrisonCertificateExpiring",
        "GarrisonKeyExpiring",
    ],
)
def test_it_fires(alarmed: Prometheus, alert: str) -> None:
    wait_for(lambda: alert in alarmed.firing(), alert, WITHIN_S)


def test_nothing_else_fires(alarmed: Prometheus) -> None:
    assert alarmed.fired_within(300) == [
        *("GarrisonBudgetNearlyUsed", "GarrisonCertificateExpiring", "GarrisonClientErrors"),
        *("GarrisonConfigurationRefused", "GarrisonKeyExpiring", "GarrisonManagementAttempt", "GarrisonModelErrors"),
        "GarrisonRefusalBurst",
    ]


def test_alertmanager_tells_it_in_words(alarmed: Prometheus) -> None:
    def ask() -> dict[str, dict[str, str]]:
        address = f"http://127.0.0.1:{alarmed.port + ALERTMANAGER_BEHIND}/api/v2/alerts"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return {one["labels"]["alertname"]: one["annotations"] for one in json.load(answer)}

    wait_for(lambda: "GarrisonClientErrors" in ask(), "Alertmanager knows it")
    told = ask()
    assert told["GarrisonClientErrors"]["summary"] == "tester is refused more than usual"
    assert not [text for annotations in told.values() for text in annotations.values() if "<error" in text]


def test_what_was_seen_stays_private(watched: tuple[RunningStack, Prometheus]) -> None:
    for name in ("prometheus", "prometheus-alertmanager"):
        path = Path(watched[0].state, "monitoring", name)
        assert path.stat().st_mode & 0o077 == 0
