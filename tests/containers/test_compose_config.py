"""The compose files, in each combination, give every service its walls; a careless change is told."""

import copy
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from containers.composing import SERVICES, WATCHING
from containers.reviewing import (
    LONG_RUNNING,
    NETWORKS,
    REVIEWED_KEYS,
    RULES,
    UPSTREAM,
    WRITABLE_MOUNTS,
    configure,
    review,
)
from garrison.admission.settings import FILE as ADMISSION_FILE
from garrison.admission.settings import load_admission
from garrison.stack.part import STOP_TIMEOUT_S
from garrison.stack.server import ANSWER_MARGIN_S, NOTICED_AFTER_S
from stack.running import REPOSITORY

MAIN = "compose.yaml"
ADDED = sorted(path.name for path in REPOSITORY.glob("compose.*.yaml"))
COMBINATIONS = [(MAIN, *chosen) for number in range(len(ADDED) + 1) for chosen in itertools.combinations(ADDED, number)]
Change = Callable[[dict[str, Any]], object]

# A careless change: the service it is made to, what it is, and the rule that has to tell it.
CARELESS: list[tuple[str, str, Change]] = [
    ("gateway", "nothing unreviewed", lambda service: service.update(sysctls={"net.ipv4.ip_forward": "1"})),
    ("torchserve", "read-only root", lambda service: service.pop("read_only")),
    ("torchserve", "read-only root", lambda service: service.update(read_only=False)),
    ("admit", "no capabilities", lambda service: service.pop("cap_drop")),
    ("admit", "no capabilities", lambda service: service.update(cap_drop=["NET_RAW"])),
    ("gateway", "no capabilities", lambda service: service.update(cap_add=["NET_BIND_SERVICE"])),
    ("torchserve", "not privileged", lambda service: service.update(privileged=True)),
    ("render", "no new privileges", lambda service: service["security_opt"].remove("no-new-privileges")),
    ("render", "no new privileges", lambda service: service["security_opt"].append("apparmor=unconfined")),
    ("render", "no new privileges", lambda service: service["security_opt"].append("label=disable")),
    ("gateway", "seccomp profile", lambda service: service.update(security_opt=["no-new-privileges"])),
    (
        "gateway",
        "seccomp profile",
        lambda service: service.update(security_opt=["no-new-privileges", "seccomp=unconfined"]),
    ),
    ("torchserve", "own namespaces", lambda service: service.update(pid="host")),
    ("torchserve", "own namespaces", lambda service: service.update(ipc="shareable")),
    ("torchserve", "own namespaces", lambda service: service.pop("ipc")),
    ("gateway", "own namespaces", lambda service: service.update(uts="host")),
    ("gateway", "own namespaces", lambda service: service.update(userns_mode="host")),
    ("gateway", "own namespaces", lambda service: service.update(cgroup="host")),
    ("keys", "user of the image", lambda service: service.update(user="0:0")),
    ("keys", "user of the image", lambda service: service.update(group_add=["docker"])),
    ("torchserve", "limits", lambda service: service.pop("mem_limit")),
    ("torchserve", "limits", lambda service: service.update(memswap_limit="-1")),
    ("torchserve", "limits", lambda service: service.update(pids_limit=-1)),
    ("torchserve", "limits", lambda service: service.pop("cpus")),
    ("admit", "ulimits", lambda service: service.pop("ulimits")),
    ("admit", "ulimits", lambda service: service["ulimits"].update(core=-1)),
    ("admit", "ulimits", lambda service: service["ulimits"].update(nofile=1048576)),
    ("gateway", "tmpfs", lambda service: service.update(tmpfs=["/run"])),
    ("gateway", "tmpfs", lambda service: service["tmpfs"].append("/tmp")),
    ("gateway", "tmpfs", lambda service: service.update(tmpfs=["/run:size=64m,mode=0770,gid=0,exec,nosuid,nodev"])),
    ("gateway", "restart policy", lambda service: service.pop("restart")),
    ("admit", "restart policy", lambda service: service.update(restart="always")),
    ("torchserve", "health", lambda service: service.update(healthcheck={"disable": True})),
    ("torchserve", "health", lambda service: service["build"].update(dockerfile="Dockerfile.tools")),
    ("torchserve", "bounded log", lambda service: service.pop("logging")),
    ("torchserve", "network", lambda service: service.pop("network_mode")),
    ("torchserve", "network", lambda service: service.update(network_mode="host")),
    ("torchserve", "network", lambda service: service.update(network_mode="service:gateway")),
    ("gateway", "network", lambda service: service.update(networks={"front": None, "back": None})),
    ("gateway", "network", lambda service: service.update(networks={"front": None, "watch": None, "alerts": None})),
    ("prometheus", "network", lambda service: service["networks"].update(front=None)),
    ("prometheus", "network", lambda service: service["networks"].update(out=None)),
    ("grafana", "network", lambda service: service["networks"].update(watch=None)),
    ("grafana", "ports", lambda service: service["ports"][0].update(host_ip="0.0.0.0")),
    ("grafana", "image by a tag", lambda service: service.update(image="grafana/grafana:latest")),
    ("grafana", "seccomp profile", lambda service: service["security_opt"].append("seccomp=unconfined")),
    ("alertmanager", "mounts", lambda service: writable(service, "/etc/garrison")),
    ("gateway", "network", lambda service: service.pop("dns")),
    ("gateway", "network", lambda service: service.update(dns=["1.1.1.1"])),
    (
        "torchserve",
        "ports",
        lambda service: service.update(ports=[{"host_ip": "127.0.0.1", "target": 8081, "published": "8081"}]),
    ),
    ("gateway", "ports", lambda service: service["ports"][0].pop("host_ip")),
    ("gateway", "ports", lambda service: service["ports"][0].update(host_ip="0.0.0.0")),
    ("gateway", "ports", lambda service: service["ports"][0].update(published="443")),
    ("torchserve", "mounts", lambda service: writable(service, "/store")),
    ("gateway", "mounts", lambda service: writable(service, "/sockets/torchserve")),
    ("gateway", "mounts", lambda service: writable(service, "/etc/garrison")),
    ("gateway", "mounts", lambda service: bind(service, "/var/run/docker.sock")),
    ("torchserve", "mounts", lambda service: bind(service, "/")),
    ("torchserve", "mounts", lambda service: bind(service, "/etc")),
    ("torchserve", "mounts", lambda service: service["volumes"][0]["bind"].update(propagation="shared")),
    ("torchserve", "devices", lambda service: service.update(devices=["/dev/mem:/dev/mem"])),
    (
        "torchserve",
        "devices",
        lambda service: service.update(deploy={"resources": {"reservations": {"devices": [{"driver": "cdi"}]}}}),
    ),
    ("torchserve", "image by a tag", lambda service: service.update(image="garrison/torchserve:latest")),
    ("torchserve", "image by a tag", lambda service: service.update(image="garrison/torchserve")),
    (
        "gateway",
        "no secret in the environment",
        lambda service: service.update(environment={"PORT": "-----BEGIN PRIVATE KEY-----"}),
    ),
    (
        "gateway",
        "no secret in the environment",
        lambda service: service.update(environment={"TLS_PASSWORD": "x"}),
    ),
    (
        "gateway",
        "no secret in the environment",
        lambda service: service["build"].update(args={"PYPI_TOKEN": "x"}),
    ),
    ("torchserve", "command", lambda service: service["command"].append("--unsafe-development")),
    ("torchserve", "command", lambda service: service.update(entrypoint=["sh", "-c"])),
]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """What compose makes of compose.yaml alone."""
    return configure(MAIN)


def writable(service: dict[str, Any], target: str) -> None:
    """Let a service write to what it only reads."""
    next(mount for mount in service["volumes"] if mount["target"] == target).pop("read_only")


def bind(service: dict[str, Any], source: str) -> None:
    """Show a directory of the host to a service, even if only to read."""
    service["volumes"].append({"type": "bind", "source": source, "target": "/host", "read_only": True, "bind": {}})


@pytest.mark.parametrize("files", COMBINATIONS, ids=" ".join)
def test_every_service_has_its_walls(files: tuple[str, ...]) -> None:
    assert review(configure(*files)) == set()


@pytest.mark.parametrize("files", COMBINATIONS, ids=" ".join)
def test_every_service_is_known(files: tuple[str, ...]) -> None:
    services = set(configure(*files)["services"])
    assert services <= WRITABLE_MOUNTS.keys()
    assert {"admit", "render", "torchserve", "gateway"} <= services


@pytest.mark.parametrize("files", COMBINATIONS, ids=" ".join)
def test_a_stop_waits_for_the_longest_answer(files: tuple[str, ...]) -> None:
    longest_s = load_admission(REPOSITORY / "config" / ADMISSION_FILE).limits.max_timeout_s
    services = configure(*files)["services"]
    for name in LONG_RUNNING & services.keys() - NETWORKS.keys() | {"gateway"}:
        minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", services[name]["stop_grace_period"]).groups()
        needed = NOTICED_AFTER_S + longest_s + ANSWER_MARGIN_S + STOP_TIMEOUT_S
        assert int(minutes or 0) * 60 + int(seconds) > needed


def test_the_images_under_test_are_those_of_the_services() -> None:
    built = {
        name: (service["build"]["dockerfile"], service["build"].get("target", ""))
        for files in COMBINATIONS
        for name, service in configure(*files)["services"].items()
        if name not in UPSTREAM
    }
    targets = {"guard": ("Dockerfile.tfserving", "guard"), "tfserving": ("Dockerfile.tfserving", "server")}
    targets |= {name: ("Dockerfile.monitoring", name) for name in WATCHING}
    wanted = {name: targets.get(image, (f"Dockerfile.{image}", "")) for name, image in (SERVICES | WATCHING).items()}
    assert wanted.items() <= built.items()
    assert built.keys() >= LONG_RUNNING - UPSTREAM.keys()


@pytest.mark.parametrize(
    ("service", "rule", "change"), CARELESS, ids=[f"{number}-{one[0]}-{one[1]}" for number, one in enumerate(CARELESS)]
)
def test_a_careless_change_is_told(config: dict[str, Any], service: str, rule: str, change: Change) -> None:
    changed = copy.deepcopy(config)
    change(changed["services"][service])
    assert f"{service}: {rule}" in review(changed)


def test_each_rule_was_shown_to_tell() -> None:
    assert {rule for _, rule, _ in CARELESS} == RULES.keys()


@pytest.mark.parametrize("key", sorted(REVIEWED_KEYS))
def test_each_reviewed_key_is_used(key: str) -> None:
    assert any(key in service for files in COMBINATIONS for service in configure(*files)["services"].values())


@pytest.mark.parametrize(
    "volume",
    [
        {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}},
        {"driver_opts": {"type": "tmpfs", "device": "tmpfs"}},
        {"external": True},
    ],
    ids=["a directory of the host", "in memory, and executable", "somebody else's"],
)
def test_a_careless_volume_is_told(config: dict[str, Any], volume: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["volumes"]["store"] = volume
    assert review(changed) == {"volume store: plain or in memory"}


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("front", {}),
        ("front", {"external": True}),
        ("front", {"driver": "macvlan"}),
        ("watch", {"internal": False}),
        ("alerts", {}),
    ],
    ids=["neighbours", "somebody else's", "the host's own network", "a way out of watch", "a way out of alerts"],
)
def test_a_careless_network_is_told(config: dict[str, Any], name: str, network: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["networks"][name] = network
    assert review(changed) == {f"network {name}: as reviewed"}


def test_one_network_more_is_told(config: dict[str, Any]) -> None:
    changed = copy.deepcopy(config)
    changed["networks"]["more"] = {}
    assert "network more: as reviewed" in review(changed)


def test_the_gateways_side_of_the_sockets_is_read_only(config: dict[str, Any]) -> None:
    mounts = {mount["target"]: mount for mount in config["services"]["gateway"]["volumes"]}
    assert mounts["/sockets/torchserve"]["read_only"] is True
    sharing = {
        name
        for name, service in config["services"].items()
        if any(mount["source"] == "sockets" for mount in service.get("volumes", ()))
    }
    assert sharing == {"torchserve", "gateway"}


@pytest.mark.parametrize(
    ("volume", "target", "server", "client"),
    [
        ("sockets-tfserving", "/sockets/tfserving", "tfserving", "guard"),
        ("sockets-guard", "/sockets/guard", "guard", "gateway"),
    ],
    ids=["to TensorFlow Serving", "to the guard"],
)
def test_a_directory_of_sockets_is_of_two(
    config: dict[str, Any], volume: str, target: str, server: str, client: str
) -> None:
    mounts = {
        name: mount
        for name, service in config["services"].items()
        for mount in service.get("volumes", ())
        if mount["source"] == volume
    }
    assert {name: (mount["target"], mount.get("read_only", False)) for name, mount in mounts.items()} == {
        server: (target, False),
        client: (target, True),
    }


def test_production_has_nothing_unsafe() -> None:
    production = configure(MAIN, "compose.production.yaml")
    assert not any("unsafe" in name for name in production["services"])
    assert not {"packed", "trust", "state"} & set(production["volumes"])
    given = {
        name: [one["source"] for one in service.get("secrets", ())] for name, service in production["services"].items()
    }
    assert {name: names for name, names in given.items() if names} == {"gateway": ["tls_certificate", "tls_key"]}


def test_the_reference_names_what_each_service_has(config: dict[str, Any]) -> None:
    table = (REPOSITORY / "docs" / "reference.md").read_text().split("\n## Containers\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")
    ]
    told = {row[0].strip("`"): row for row in rows}
    assert told.keys() == config["services"].keys()
    for name, service in config["services"].items():
        _, _, network, writable, scratch, memory, processors, processes, files = told[name]
        ((size, unit),) = re.findall(r"size=(\d+)([mg])", service["tmpfs"][0])
        assert (network == "none") == (service.get("network_mode") == "none")
        assert set(re.findall(r"`(/\S+)`", writable)) == WRITABLE_MOUNTS[name]
        assert scratch == f"{size} {unit.upper()}B"
        assert in_bytes(memory) == int(service["mem_limit"])
        assert processors.split()[-1] == str(service["cpus"])
        assert (processes, files) == (str(service["pids_limit"]), str(service["ulimits"]["nofile"]))


def in_bytes(told: str) -> int:
    """Return a size as the reference writes it, such as "`GARRISON_MEMORY`, 6 GB"."""
    number, unit = told.split()[-2:]
    return int(number) * {"MB": 1024**2, "GB": 1024**3}[unit]
