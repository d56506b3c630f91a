"""The profile `monitoring`: Prometheus sees the gateway and tells Alertmanager, and nobody else sees anything more.

The images hold no Python, so what their containers can do is looked at from this machine, in the kernel's own record.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from attacks.catalogue import sample_digit
from containers.composing import PYTHON, WATCHING, ComposedStack, docker
from containers.walls import UNWELCOME
from garrison.watch.seeing.asking import Site, ask
from garrison.watch.seeing.prometheus import Prometheus
from release.layers import open_image
from stack.observing import wait_for
from stack.running import REPOSITORY

USERS = {"prometheus": 10003, "alertmanager": 10004}
PROGRAMS = {"prometheus": {"prometheus", "promtool"}, "alertmanager": {"prometheus-alertmanager", "amtool"}}
LIBRARY_PROGRAM = "/usr/lib/x86_64-linux-gnu/libc.so.6"
FILES = {f"/etc/garrison/{name}" for name in ("prometheus/prometheus.yml", "prometheus/rules.yml", "alertmanager.yml")}
JOBS = {"garrison-gateway", "garrison-envoy", "garrison-server"}
RULES = yaml.safe_load((REPOSITORY / "config" / "prometheus" / "rules.yml").read_text())
ALERTS = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
OVERVIEW = json.loads((REPOSITORY / "config" / "grafana" / "dashboards" / "overview.json").read_text())
METRICS_PORT = 9464
FIRES_WITHIN_S = 60
SEEN_WITHIN_S = 90


def site(composed: ComposedStack, service: str) -> Site:
    return Site("http", "127.0.0.1", composed.watching[service])


def ask_json(composed: ComposedStack, service: str, path: str) -> Any:
    return json.loads(ask(site(composed, service), path).body)


def find_targets(composed: ComposedStack) -> dict[str, str]:
    """Return each job's health, as Prometheus has it."""
    targets = ask_json(composed, "prometheus", "/api/v1/targets")["data"]["activeTargets"]
    return {one["labels"]["job"]: one["health"] for one in targets}


@pytest.fixture(params=WATCHING)
def service(request: pytest.FixtureRequest) -> str:
    """Prometheus and Alertmanager."""
    return str(request.param)


def test_prometheus_reaches_every_page(composed: ComposedStack) -> None:
    expected = dict.fromkeys(JOBS, "up")
    wait_for(lambda: find_targets(composed) == expected, "every target is up", SEEN_WITHIN_S)


def test_every_rule_is_loaded(composed: ComposedStack) -> None:
    groups = ask_json(composed, "prometheus", "/api/v1/rules")["data"]["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"}
    assert loaded.keys() == ALERTS
    assert "err" not in loaded.values()


def test_a_management_attempt_reaches_alertmanager(composed: ComposedStack) -> None:
    test_prometheus_reaches_every_page(composed)
    told = lambda: {one["labels"]["alertname"] for one in ask_json(composed, "alertmanager", "/api/v2/alerts")}  # noqa: E731
    assert composed.target.send("GET", "/models").status == 404
    wait_for(lambda: "GarrisonManagementAttempt" in told(), "Alertmanager knows of it", FIRES_WITHIN_S)


def test_the_overview_has_data_of_the_running_stack(composed: ComposedStack) -> None:
    assert composed.target.send(body=sample_digit()).status == 200
    prometheus = Prometheus(site(composed, "prometheus"))
    for panel in (one for one in OVERVIEW["panels"] if "targets" in one):
        asked = [fill_in(target["expr"]) for target in panel["targets"]]
        answered = lambda: any(prometheus.ask(one, time.time()) for one in asked)  # noqa: B023, E731
        wait_for(answered, panel["title"], SEEN_WITHIN_S)


def fill_in(expression: str) -> str:
    """Put in what Grafana does."""
    return expression.replace("$__rate_interval", "1m").replace("$__range", "5m")


def test_their_health_is_asked(composed: ComposedStack, service: str) -> None:
    wait_for(
        lambda: composed.inspect(service)["State"]["Health"]["Status"] == "healthy", "it is healthy", SEEN_WITHIN_S
    )


def test_the_process_has_no_rights(composed: ComposedStack, service: str) -> None:
    status = Path(f"/proc/{composed.inspect(service)['State']['Pid']}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(found["Uid"].split()) == {str(USERS[service])}
    assert set(found["Gid"].split()) == {"0"}
    assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_the_container_is_closed(composed: ComposedStack, service: str) -> None:
    found = composed.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["IpcMode"] == "none"
    assert 0 < host["Memory"] == host["MemorySwap"] and 0 < host["PidsLimit"] <= 128 and host["NanoCpus"] > 0
    writable = {mount["Destination"] for mount in found["Mounts"] if mount["RW"]}
    assert writable == {"/data"}
    assert {one["HostIp"] for offered in host["PortBindings"].values() for one in offered} == {"127.0.0.1"}


def test_each_is_on_its_networks(composed: ComposedStack) -> None:
    joined = {name: set(composed.inspect(name)["NetworkSettings"]["Networks"]) for name in ("gateway", *WATCHING)}
    wanted = {"gateway": {"front", "watch"}, "prometheus": {"watch", "alerts"}, "alertmanager": {"alerts", "out"}}
    assert joined == {name: {f"{composed.project}_{one}" for one in networks} for name, networks in wanted.items()}


def test_an_image_holds_its_programs_and_no_tool(images: dict[str, str], service: str) -> None:
    with open_image(images[WATCHING[service]]) as image:
        entries = image.entries()
    programs = {path for path, one in entries.items() if one.kind == "file" and one.mode & 0o111 and ".so" not in path}
    assert {path.rpartition("/")[2] for path in programs} == PROGRAMS[service]
    assert not [path for path in entries if UNWELCOME.fullmatch(path.rpartition("/")[2]) and "/share/" not in path]
    assert not [path for path in entries if "python" in path]
    assert not [path for path, one in entries.items() if one.mode & 0o7000 or one.capable]
    assert {path for path, one in entries.items() if one.user} <= {"/data", "/run"}
    assert {path for path, one in entries.items() if one.kind != "symlink" and one.mode & 0o022} <= {"/data", "/run"}


def test_clients_do_not_reach_the_metrics(composed: ComposedStack, images: dict[str, str]) -> None:
    """Neither through the published port, nor as a neighbour of the gateway's on the front."""
    assert composed.target.send("GET", "/metrics/gateway").status == 404
    networks = composed.inspect("gateway")["NetworkSettings"]["Networks"]
    code = "import socket, sys; socket.setdefaulttimeout(2); print(socket.socket().connect_ex((sys.argv[1], {port})))"
    reached = {}
    for name in ("front", "watch"):
        address = networks[f"{composed.project}_{name}"]["IPAddress"]
        command = ("run", "--rm", f"--network={composed.project}_{name}", f"--entrypoint={PYTHON}", images["tools"])
        reached[name] = docker(*command, "-I", "-c", code.format(port=METRICS_PORT), address).strip() == "0"
    assert reached == {"front": False, "watch": True}
