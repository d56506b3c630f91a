"""Sections 4 (images) and 5 (containers) of the CIS Docker Benchmark 1.6, a row for each of its checks.

The benchmark is the Center for Internet Security's; its numbers are kept, the words are ours. Most checks are of the
engine's own record of what was built and started; those of the compose files are in test_compose_config.py.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from containers.composing import SERVICES, STAND_IN, ComposedStack, docker
from containers.reviewing import SECRET
from release.layers import Entry, open_image
from stack.running import REPOSITORY

LONG_RUNNING = ("torchserve", "tfserving", "guard", "gateway")
STARTED = tuple(name for name in SERVICES if name != "keys")  # which runs on demand
DOCKERFILES = {path.name: path.read_text() for path in sorted(REPOSITORY.glob("Dockerfile.*"))}
BUILD_SCRIPTS = {path.name: path.read_text() for path in sorted(REPOSITORY.glob("scripts/image-*"))}
PACKAGES = {
    "base-files", "ca-certificates", "gcc-12-base", "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1",
    "liblzma5", "libpython3.11-minimal", "libpython3.11-stdlib", "libsqlite3-0", "libssl3", "libstdc++6",
    "libuuid1", "media-types", "python3.11-minimal", "zlib1g",
}  # fmt: skip
WITHOUT_PYTHON = {name: {"base-files", "libc6", package} for name, package in (
    ("prometheus", "prometheus"), ("alertmanager", "prometheus-alertmanager"),
)}  # fmt: skip
STATUS = "/var/lib/dpkg/status.d/"
SECTION_4 = [f"4.{number}" for number in range(1, 13)]
SECTION_5 = [f"5.{number}" for number in range(1, 33)]


@dataclass(frozen=True)
class Built:
    """What the engine and the repository say: image configurations, containers, and the engine itself."""

    images: Mapping[str, dict[str, Any]]
    files: Mapping[str, Mapping[str, Entry]]
    containers: Mapping[str, dict[str, Any]]
    engine: Mapping[str, Any]

    @property
    def hosts(self) -> Iterator[dict[str, Any]]:
        """What each container was started with."""
        return (container["HostConfig"] for container in self.containers.values())

    def paths(self, pattern: str) -> list[str]:
        """The paths of all images that match."""
        return [path for entries in self.files.values() for path in entries if re.search(pattern, path)]


Check = Callable[[Built], bool]


@dataclass(frozen=True)
class Row:
    """A check of the benchmark: what it asks for, how that is seen here, or why it is not."""

    id: str
    title: str
    check: Check | None = None
    reason: str = ""


def has_stages_of_trust(_: Built) -> bool:
    """Each stage is built on BASE, on another stage, or on nothing; BASE is Debian's own image.

    That of TensorFlow Serving takes one file of upstream's, for one of two devices.
    """
    for text in DOCKERFILES.values():
        stages = {"${BASE}:${BASE_VERSION}", "scratch", "binary-${DEVICE}"}
        if re.search(
            r"^ARG SERVING=tensorflow/serving\nARG SERVING_VERSION=[\d.]+(@sha256:[0-9a-f]{64})?$", text, re.M
        ):
            stages.add("${SERVING}:${SERVING_VERSION}")
        for origin, name in re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.M):
            if origin not in stages:
                return False
            stages.add(name)
        if not re.search(r"^ARG BASE=debian\nARG BASE_VERSION=bookworm-slim(@sha256:[0-9a-f]{64})?$", text, re.M):
            return False
    return True


def has_reviewed_packages(built: Built) -> bool:
    """An image's record of Debian's packages is the reviewed list, and nothing is there to install more."""
    for name, entries in built.files.items():
        found = {path.removeprefix(STATUS) for path in entries if path.startswith(STATUS)}
        least, most = {"libc6", "python3.11-minimal"}, PACKAGES
        if name in WITHOUT_PYTHON:
            least = most = WITHOUT_PYTHON[name]
        if not least <= found <= most:
            return False
    return not built.paths(r"/(apt|apt-get|pip[\d.]*|rpm|apk)$")


def has_no_secret_in_files(built: Built) -> bool:
    """Neither Dockerfiles nor what they set name or hold a secret; the layers are read in test_supply_chain.py."""
    written = [line for text in DOCKERFILES.values() for line in re.findall(r"^(?:ENV|ARG|LABEL) .*$", text, re.M)]
    kept = [value for image in built.images.values() for value in (image["Config"]["Env"] or ())]
    return bool(written and kept) and not any(SECRET.search(one) for one in written + kept)


def has_verified_packages(_: Built) -> bool:
    """Python's packages by hash, Debian's by its signatures: nothing switches the verification off."""
    text = re.sub(r"(?m)^#.*$", "", "\n".join([*BUILD_SCRIPTS.values(), *DOCKERFILES.values()]))
    installs = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if re.search(r"pip\b.* install\b", line)]
    loose = re.search(r"allow-unauthenticated|trusted=yes|trusted-host|allow-insecure|--insecure|http_proxy=", text)
    return not loose and bool(installs) and all("--require-hashes" in line or "--no-index" in line for line in installs)


def has_no_shared_mount(built: Built) -> bool:
    return all(
        mount.get("Propagation", "") in ("", "rprivate") for one in built.containers.values() for mount in one["Mounts"]
    )


def binds_only_reviewed(built: Built) -> bool:
    """Of this machine: what the tests put in the place of config/, and the sample models and scripts, to read."""
    binds = [mount for one in built.containers.values() for mount in one["Mounts"] if mount["Type"] == "bind"]
    allowed = {"/etc/garrison", "/models", "/scripts", *STAND_IN.values()}
    return all(not mount["RW"] and mount["Destination"] in allowed for mount in binds)


def uses_no_privileged_exec(_: Built) -> bool:
    """Nothing that we wrote or recommend enters a container as root or with privileges."""
    places = [
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("scripts/*"),
        *REPOSITORY.glob("*.md"),
        REPOSITORY / "Makefile",
    ]
    text = "\n".join(path.read_text() for path in places if path.is_file())
    return not re.search(r"(docker|compose) exec[^\n]*(--privileged|(-u|--user)[ =](root|0))", text)


def ports(built: Built) -> dict[str, Any]:
    return {
        name: one["HostConfig"]["PortBindings"]
        for name, one in built.containers.items()
        if one["HostConfig"]["PortBindings"]
    }


def published(built: Built) -> list[dict[str, str]]:
    return [one for offered in ports(built).values() for every in offered.values() for one in every]


def all_hosts(holds: Callable[[dict[str, Any]], object]) -> Check:
    return lambda built: all(holds(host) for host in built.hosts)


ROWS = [
    Row(
        "4.1",
        "A user of its own",
        lambda built: all(re.fullmatch(r"100\d\d:0", one["Config"]["User"]) for one in built.images.values()),
    ),
    Row("4.2", "Trusted base images", has_stages_of_trust),
    Row("4.3", "No unnecessary packages", has_reviewed_packages),
    Row(
        "4.4",
        "Scanned, and rebuilt with patches",
        reason="a habit, not a state: each release builds anew and attaches a bill of materials to scan",
    ),
    Row(
        "4.5",
        "Content trust",
        reason="a setting of who pulls; the images of a release are signed, and run by their digests",
    ),
    Row(
        "4.6",
        "HEALTHCHECK",
        lambda built: (
            {name: one["Config"]["Healthcheck"]["Test"][0] for name, one in built.images.items()}
            == {**dict.fromkeys((*LONG_RUNNING, *WITHOUT_PYTHON), "CMD"), "tools": "NONE"}
        ),
    ),
    Row(
        "4.7",
        "No update without an install",
        lambda _: (
            not any("apt-get" in text for text in DOCKERFILES.values())
            and all(
                text.count("apt-get update") == len(re.findall("apt-get (?:install|download)", text))
                for text in BUILD_SCRIPTS.values()
            )
        ),
    ),
    Row(
        "4.8",
        "No setuid, no setgid",
        lambda built: (
            not any(one.mode & 0o6000 or one.capable for entries in built.files.values() for one in entries.values())
        ),
    ),
    Row(
        "4.9", "COPY, not ADD", lambda _: not any(re.search(r"^\s*ADD\s", text, re.M) for text in DOCKERFILES.values())
    ),
    Row("4.10", "No secrets in Dockerfiles", has_no_secret_in_files),
    Row("4.11", "Verified packages only", has_verified_packages),
    Row(
        "4.12",
        "Signed artifacts are verified",
        reason="only Debian's packages bring a signature, which apt verifies; the rest is pinned by hash (4.11)",
    ),
    Row("5.1", "No swarm where none is needed", lambda built: built.engine["Swarm"]["LocalNodeState"] == "inactive"),
    Row(
        "5.2",
        "AppArmor where there is",
        lambda built: (
            not any("apparmor" in option for host in built.hosts for option in host["SecurityOpt"])
            and (
                "name=apparmor" not in built.engine["SecurityOptions"]
                or all(one["AppArmorProfile"] == "docker-default" for one in built.containers.values())
            )
        ),
    ),
    Row(
        "5.3",
        "SELinux where there is",
        all_hosts(lambda host: not any("label" in option for option in host["SecurityOpt"])),
    ),
    Row("5.4", "No capabilities", all_hosts(lambda host: host["CapDrop"] == ["ALL"] and not host["CapAdd"])),
    Row("5.5", "Not privileged", all_hosts(lambda host: host["Privileged"] is False)),
    Row("5.6", "No directories of the host's system", binds_only_reviewed),
    Row("5.7", "No SSH server", lambda built: not built.paths(r"/sshd?$")),
    Row(
        "5.8",
        "No privileged ports",
        lambda built: [int(one["HostPort"]) >= 1024 for one in published(built)] == [True],
    ),
    Row(
        "5.9",
        "Only the ports that are needed",
        lambda built: {name: list(offered) for name, offered in ports(built).items()} == {"gateway": ["8443/tcp"]},
    ),
    Row(
        "5.10",
        "Not the host's network",
        all_hosts(lambda host: host["NetworkMode"] == "none" or host["NetworkMode"].endswith("_front")),
    ),
    Row("5.11", "Limited memory", all_hosts(lambda host: 0 < host["Memory"] == host["MemorySwap"])),
    Row("5.12", "A share of the processors", all_hosts(lambda host: host["NanoCpus"] > 0)),
    Row("5.13", "A read-only root", all_hosts(lambda host: host["ReadonlyRootfs"] is True)),
    Row(
        "5.14",
        "Published on one interface",
        lambda built: [one["HostIp"] for one in published(built)] == ["127.0.0.1"],
    ),
    Row(
        "5.15",
        "Restarted at most five times",
        lambda built: (
            {name: one["HostConfig"]["RestartPolicy"]["Name"] for name, one in built.containers.items()}
            == {name: "always" if name in LONG_RUNNING else "no" for name in built.containers}
        ),
        reason="otherwise: who can crash a server five times would have switched it off; the engine waits ever longer",
    ),
    Row("5.16", "Not the host's processes", all_hosts(lambda host: host["PidMode"] == "")),
    Row("5.17", "Not the host's shared memory", all_hosts(lambda host: host["IpcMode"] == "none")),
    Row(
        "5.18",
        "No devices",
        all_hosts(lambda host: not host["Devices"] and not host["DeviceRequests"] and not host["DeviceCgroupRules"]),
    ),
    Row("5.19", "Own ulimits", all_hosts(lambda host: {one["Name"] for one in host["Ulimits"]} == {"core", "nofile"})),
    Row("5.20", "No shared mounts", has_no_shared_mount),
    Row("5.21", "Not the host's name", all_hosts(lambda host: host["UTSMode"] == "")),
    Row(
        "5.22",
        "A seccomp profile",
        all_hosts(
            lambda host: any(
                option.startswith("seccomp={") and "SCMP_ACT_ERRNO" in option for option in host["SecurityOpt"]
            )
        ),
    ),
    Row("5.23", "No exec with privileges", uses_no_privileged_exec),
    Row("5.24", "No exec as root", uses_no_privileged_exec),
    Row("5.25", "The engine's own cgroup", all_hosts(lambda host: host["CgroupParent"] == "")),
    Row(
        "5.26",
        "No new privileges",
        all_hosts(
            lambda host: "no-new-privileges" in host["SecurityOpt"] or "no-new-privileges:true" in host["SecurityOpt"]
        ),
    ),
    Row(
        "5.27",
        "Asked for its health",
        lambda built: all(built.containers[name]["State"]["Health"]["Status"] == "healthy" for name in LONG_RUNNING),
    ),
    Row(
        "5.28",
        "The latest version of an image",
        reason="by intent the version that was reviewed: a tag of this checkout, or a digest",
    ),
    Row("5.29", "A number of processes", all_hosts(lambda host: 0 < host["PidsLimit"] <= 2048)),
    Row(
        "5.30",
        "Not the engine's default bridge",
        lambda built: not any("bridge" in one["NetworkSettings"]["Networks"] for one in built.containers.values()),
    ),
    Row("5.31", "Not the host's users, by its own choice", all_hosts(lambda host: host["UsernsMode"] == "")),
    Row(
        "5.32",
        "No socket of the engine",
        lambda built: (
            not any("docker.sock" in mount["Source"] for one in built.containers.values() for mount in one["Mounts"])
        ),
    ),
]


def read_files(image: str) -> Mapping[str, Entry]:
    """Return what the layers of an image add up to."""
    with open_image(image) as opened:
        return opened.entries()


@pytest.fixture(scope="module")
def built(composed: ComposedStack, images: dict[str, str]) -> Built:
    """What the engine says of the images and of the running stack."""
    return Built(
        {name: json.loads(docker("image", "inspect", image))[0] for name, image in images.items()},
        {name: read_files(image) for name, image in images.items()},
        {name: composed.inspect(name) for name in STARTED},
        json.loads(docker("info", "--format", "{{json .}}")),
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.check], ids=lambda row: f"{row.id} {row.title}")
def test_a_check_of_the_benchmark(built: Built, row: Row) -> None:
    assert row.check is not None
    assert row.check(built)


def test_every_check_of_the_benchmark_has_a_row() -> None:
    assert [row.id for row in ROWS] == SECTION_4 + SECTION_5


def test_what_is_not_checked_has_a_reason() -> None:
    assert [row.id for row in ROWS if row.check is None and not row.reason] == []
    assert {row.id for row in ROWS if row.check is None} == {"4.4", "4.5", "4.12", "5.28"}
