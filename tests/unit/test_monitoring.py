"""Prometheus and Alertmanager as parts of a run: what they are told, what refuses a start, what ends no run."""

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from garrison.cli import main
from garrison.errors import EXIT_CONFIG, ConfigError, Undecided
from garrison.eventlog import EventLog
from garrison.gateway.settings import MetricsListener
from garrison.stack import monitoring
from garrison.stack.local import GatewayPlaces
from garrison.stack.monitoring import AlertmanagerPart, Monitoring, PrometheusPart, render_prometheus
from garrison.stack.part import Lifetime
from stack.running import free_monitoring_port

CONFIG = Path(__file__).resolve().parents[2] / "config"
LISTENER = MetricsListener("127.0.0.1", 9464)


@pytest.fixture
def places(tmp_path: Path) -> Monitoring:
    """The shipped settings, and free ports."""
    shutil.copytree(CONFIG, tmp_path / "config")
    return Monitoring(tmp_path / "config", tmp_path / "state", free_monitoring_port())


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def lifetime(log: io.BytesIO) -> Lifetime:
    return Lifetime(EventLog(log, None))


def read_jobs(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the page and the name of each job."""
    jobs = {}
    for job in config["scrape_configs"]:
        (static,) = job["static_configs"]
        labels = static["labels"]
        page = labels.get("__metrics_path__", job.get("metrics_path"))
        jobs[job["job_name"]] = {"page": page, "instance": labels["instance"]}
    return jobs


def test_a_run_is_watched_as_the_shipped_settings_watch_containers(places: Monitoring) -> None:
    shipped = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text())
    rendered = render_prometheus(places, LISTENER, servers=1, guards=0)
    assert read_jobs(rendered) == read_jobs(shipped)
    assert rendered["global"] == shipped["global"]


def test_each_server_and_guard_is_a_target_of_its_own(places: Monitoring) -> None:
    jobs = render_prometheus(places, LISTENER, servers=1, guards=1)["scrape_configs"]
    assert isinstance(jobs, list)
    assert [job["metrics_path"] for job in jobs] == [
        "/metrics/gateway",
        "/metrics",
        "/metrics/servers/0",
        "/metrics/guards/0",
    ]


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1", "127.0.0.1:9464"),
        ("0.0.0.0", "127.0.0.1:9464"),
        ("::", "[::1]:9464"),
        ("fd00::1", "[fd00::1]:9464"),
    ],
)
def test_prometheus_asks_where_the_listener_is(places: Monitoring, address: str, target: str) -> None:
    config = render_prometheus(places, MetricsListener(address, 9464), servers=0, guards=0)
    assert json.dumps(config).count(json.dumps([target])) == 2


@pytest.mark.parametrize(("watched", "listens"), [(True, True), (False, False)])
def test_a_gateway_that_is_watched_has_a_listener_for_it(tmp_path: Path, watched: bool, listens: bool) -> None:
    settings = GatewayPlaces(CONFIG, tmp_path, 8443, watched=watched).settings()
    assert (settings.metrics == LISTENER) is listens


def test_a_listener_that_is_written_down_stays(places: Monitoring, tmp_path: Path) -> None:
    with (places.config / "gateway.yaml").open("a") as file:
        file.write("metrics: {port: 9999}\n")
    assert GatewayPlaces(places.config, tmp_path, 8443, watched=True).settings().metrics == MetricsListener(
        "127.0.0.1", 9999
    )


def test_an_address_for_metrics_goes_before_what_is_written_down(places: Monitoring, tmp_path: Path) -> None:
    told = GatewayPlaces(places.config, tmp_path, 8443, metrics_address="0.0.0.0")
    assert told.settings().metrics == MetricsListener("0.0.0.0", 9464)
    with (places.config / "gateway.yaml").open("a") as file:
        file.write("metrics: {port: 9999}\n")
    assert told.settings().metrics == MetricsListener("0.0.0.0", 9999)


def test_what_is_not_installed_is_named(
    places: Monitoring, lifetime: Lifetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(places.config))
    with pytest.raises(ConfigError, match="Debian's packages prometheus and prometheus-alertmanager"):
        AlertmanagerPart(places, lifetime).check()


def test_missing_rules_are_named(places: Monitoring, lifetime: Lifetime) -> None:
    (places.config / "prometheus" / "rules.yml").unlink()
    with pytest.raises(ConfigError, match=r"rules\.yml: is missing"):
        PrometheusPart(places, {}, lifetime).check()


def test_a_port_that_is_taken_is_named(places: Monitoring, lifetime: Lifetime) -> None:
    with (
        socket.create_server(("127.0.0.1", places.port)),
        pytest.raises(ConfigError, match=f"port {places.port} .*systemctl stop prometheus"),
    ):
        PrometheusPart(places, {}, lifetime).check()


def test_a_port_that_leaves_no_room_for_the_other_is_named(places: Monitoring, lifetime: Lifetime) -> None:
    with pytest.raises(ConfigError, match="port 65538 cannot be used"):
        AlertmanagerPart(replace(places, port=65_535), lifetime).check()


def test_a_server_alone_is_not_monitored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--server-only", "--monitoring"]) == EXIT_CONFIG
    assert "--monitoring: watches what a gateway tells" in capsys.readouterr().err


@pytest.fixture
def alertmanager(places: Monitoring, lifetime: Lifetime, tmp_path: Path) -> Iterator[AlertmanagerPart]:
    """Alertmanager, started as a run starts it."""
    part = AlertmanagerPart(places, lifetime)
    part.check()
    part.prepare(tmp_path)
    part.start()
    yield part
    part.stop()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_that_ends_later_is_started_again(alertmanager: AlertmanagerPart, lifetime: Lifetime) -> None:
    wait_until(alertmanager.watch)
    lifetime.ready.set()
    (before,) = alertmanager.pids()
    os.kill(before, signal.SIGKILL)

    def is_another() -> bool:
        alertmanager.replace_dead()
        return alertmanager.pids() != [before] and alertmanager.is_running()

    wait_until(is_another)


def test_one_that_cannot_be_started_again_ends_nothing(
    alertmanager: AlertmanagerPart, lifetime: Lifetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while its package is upgraded: the program is away for some seconds."""
    wait_until(alertmanager.watch)
    lifetime.ready.set()
    program, tried = alertmanager._program, []
    monkeypatch.setattr(alertmanager, "_program", tmp_path / "away")
    monkeypatch.setattr(alertmanager.log, "tell", lambda event, _: tried.append(event))
    os.kill(alertmanager.pids()[0], signal.SIGKILL)

    def is_tried() -> bool:
        alertmanager.replace_dead()
        return bool(tried)

    wait_until(is_tried)
    assert not alertmanager.is_running()
    monkeypatch.setattr(alertmanager, "_program", program)

    def is_there() -> bool:
        alertmanager.replace_dead()
        return alertmanager.is_running()

    wait_until(is_there)


def test_one_that_hangs_is_not_waited_for_for_ever(
    alertmanager: AlertmanagerPart, log: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for everything to be ready, such as a revocation that is taken over, goes on."""
    os.kill(alertmanager.pids()[0], signal.SIGSTOP)
    assert not alertmanager.watch()
    monkeypatch.setattr(monitoring, "WAITED_FOR_S", 0.1)
    wait_until(alertmanager.watch)
    assert log.getvalue().count(b"not_watched") == 1


def test_a_page_of_another_site_cannot_read_what_prometheus_knows(
    places: Monitoring, lifetime: Lifetime, tmp_path: Path
) -> None:
    part = PrometheusPart(places, {}, lifetime)
    part.check()
    part.prepare(tmp_path)
    part.start()
    try:
        wait_until(part.watch)
        connection = http.client.HTTPConnection("127.0.0.1", places.port, timeout=5)
        connection.request("GET", "/api/v1/labels", headers={"Origin": "https://attacker.example"})
        assert connection.getresponse().getheader("Access-Control-Allow-Origin") is None
        connection.close()
    finally:
        part.stop()


def test_one_that_ends_at_once_refuses_the_start(
    alertmanager: AlertmanagerPart, places: Monitoring, tmp_path: Path
) -> None:
    alertmanager.stop()
    (places.config / "alertmanager.yml").write_text("route: {receiver: nobody}\n")
    alertmanager.start()
    wait_until(lambda: not alertmanager.is_running())
    with pytest.raises(Undecided, match="nobody"):
        alertmanager.replace_dead()


@pytest.mark.parametrize(("severity", "receiver"), [("page", "page"), ("ticket", "ticket")])
def test_who_is_told(severity: str, receiver: str) -> None:
    command = ["amtool", "config", "routes", "test", f"--config.file={CONFIG / 'alertmanager.yml'}"]
    found = subprocess.run([*command, f"severity={severity}"], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == receiver


def test_promtool_and_amtool_find_the_shipped_settings_sound() -> None:
    for command in (
        ["promtool", "check", "config", CONFIG / "prometheus" / "prometheus.yml"],
        ["amtool", "check-config", CONFIG / "alertmanager.yml"],
    ):
        subprocess.run(command, check=True, capture_output=True)
