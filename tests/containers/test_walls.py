"""What each container can do, seen from inside it; and the same probe in containers that were started carelessly."""

import functools
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from containers.composing import PYTHON, SERVICES, ComposedStack, docker
from containers.walls import PROBE, ROOMS, WALLS, Facts
from release.layers import open_image

LONG_RUNNING = ("torchserve", "tfserving", "guard", "gateway")
PORT = 8443
PROBE_TIMEOUT_S = 180
START_TIMEOUT_S = 60
LISTEN = f"import socket, time; listener = socket.create_server(('', {PORT})); time.sleep(3600)"
NAMES = [*SERVICES, "localhost.localdomain", "host.docker.internal", "metadata.google.internal"]
# What a careless image would hold, made by the careless container's root before the probe looks around.
CARELESS_FILES = """
import os, socket
listener = socket.create_server(("0.0.0.0", 0))
os.mkdir("/careless")
os.chmod("/careless", 0o777)
with open("/careless/sh", "w") as file:
    file.write("#!/opt/garrison/bin/python")
os.chown("/careless/sh", 12345, 12345)
os.chmod("/careless/sh", 0o4755)
"""
CARELESS_OPTIONS = (
    "--user=0:0",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--device=/dev/null:/dev/mem",
    "--network=host",
    "--pid=host",
    "--ipc=host",
    "--uts=host",
    "--cgroupns=host",
    "--add-host=torchserve:127.0.0.1",
    "--volume=/var/run/docker.sock:/run.docker.sock",
    "--env=AWS_SECRET_ACCESS_KEY=careless",
)


@contextmanager
def neighbour(image: str, network: str) -> Iterator[str]:
    """Run a container that listens on a network, and return its address."""
    command = ("run", "--detach", "--rm", "--user=0", f"--network={network}", f"--entrypoint={PYTHON}", image)
    container = docker(*command, "-I", "-c", LISTEN).strip()
    try:
        found = json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"]
        yield found[network]["IPAddress"]
    finally:
        docker("rm", "--force", container)


def wait_for(address: str) -> None:
    """Wait until a container listens, as seen from this machine."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection((address, PORT), 5).close()
        except OSError:
            assert time.monotonic() < deadline, f"{address} does not listen"
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="module")
def neighbours(composed: ComposedStack, images: dict[str, str]) -> Iterator[list[tuple[str, int]]]:
    """Two containers that listen: one on the gateway's network, and one on a network of its own."""
    other = f"{composed.project}-other"
    docker("network", "create", other)
    try:
        with (
            neighbour(images["tools"], f"{composed.project}_front") as near,
            neighbour(images["tools"], other) as far,
        ):
            for address in (near, far):
                wait_for(address)  # it can be reached: from this machine
            yield [(near, PORT), (far, PORT)]
    finally:
        docker("network", "rm", other)


@pytest.fixture(scope="module")
def look(composed: ComposedStack, neighbours: list[tuple[str, int]]) -> Callable[[str], Facts]:
    """Return what the probe finds in a service's container; it looks once in each."""
    tried = json.dumps({"addresses": neighbours, "names": NAMES})

    @functools.cache
    def look_into(service: str) -> Facts:
        if service in LONG_RUNNING:
            printed = composed.python(service, PROBE, tried, timeout_s=PROBE_TIMEOUT_S)
        else:
            run = ("run", "--rm", "--no-deps", "-T", "--entrypoint", PYTHON, service, "-I", "-c", PROBE, tried)
            printed = composed.compose(*run, timeout_s=PROBE_TIMEOUT_S)
        facts: dict[str, Any] = json.loads(printed)
        return facts

    return look_into


@pytest.fixture(scope="module")
def look_carelessly(images: dict[str, str], neighbours: list[tuple[str, int]]) -> Callable[[str], Facts]:
    """Return what the probe finds with the same image, where nothing was cared for."""
    tried = json.dumps({"addresses": neighbours, "names": NAMES})

    @functools.cache
    def look_into(image: str) -> Facts:
        command = ("run", "--rm", *CARELESS_OPTIONS, f"--entrypoint={PYTHON}", images[image])
        printed = docker(*command, "-c", CARELESS_FILES + PROBE, tried, timeout_s=PROBE_TIMEOUT_S)
        facts: dict[str, Any] = json.loads(printed)
        return facts

    return look_into


@pytest.mark.parametrize("service", ROOMS)
@pytest.mark.parametrize("wall", WALLS)
def test_a_wall_holds(look: Callable[[str], Facts], wall: str, service: str) -> None:
    assert list(WALLS[wall](look(service), ROOMS[service])) == []


@pytest.mark.parametrize("service", ["admit", "torchserve", "gateway"])
@pytest.mark.parametrize("wall", WALLS)
def test_a_careless_container_has_no_such_wall(
    look_carelessly: Callable[[str], Facts], wall: str, service: str
) -> None:
    assert list(WALLS[wall](look_carelessly(SERVICES[service]), ROOMS[service])) != []


@pytest.mark.parametrize("service", ["admit", "torchserve", "tfserving", "guard", "gateway"])
def test_an_images_files_are_roots_and_fixed(images: dict[str, str], service: str) -> None:
    with open_image(images[SERVICES[service]]) as image:
        entries = image.entries()
    foreign = {path for path, entry in entries.items() if entry.user}
    loose = {path for path, entry in entries.items() if entry.kind != "symlink" and entry.mode & 0o022}
    assert foreign <= ROOMS[service].owned
    assert loose <= ROOMS[service].owned
    assert {path for path, entry in entries.items() if entry.mode & 0o7000 or entry.capable} == set()


def test_every_service_has_a_room() -> None:
    assert ROOMS.keys() == SERVICES.keys()


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_the_engine_holds_the_same_limits(composed: ComposedStack, service: str) -> None:
    host, room = composed.inspect(service)["HostConfig"], ROOMS[service]
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (room.memory, room.memory, room.processes)
    assert host["NanoCpus"] == room.processor * 1_000_000_000
    assert not host["OomKillDisable"]


def test_the_gateway_cannot_change_the_sockets_it_uses(look: Callable[[str], Facts]) -> None:
    mount = look("gateway")["mounts"]["/sockets/torchserve"]
    assert mount["type"] == "tmpfs"
    assert "ro" in mount["options"]


def test_the_management_is_in_the_servers_own_directory(look: Callable[[str], Facts]) -> None:
    own = {path for path in look("torchserve")["sockets"] if path.startswith("/run/")}
    assert any("management" in path for path in own)
    assert not own & set(look("gateway")["sockets"])


def test_the_gateways_neighbours_do_not_reach_it(
    composed: ComposedStack, images: dict[str, str], neighbours: list[tuple[str, int]]
) -> None:
    network = f"{composed.project}_front"
    address = composed.inspect("gateway")["NetworkSettings"]["Networks"][network]["IPAddress"]
    ask = f"import socket; print(socket.socket().connect_ex(({address!r}, {PORT})))"
    socket.create_connection((address, PORT), 10).close()  # this machine does
    command = ("run", "--rm", f"--network={network}", f"--entrypoint={PYTHON}", images["tools"], "-I", "-c")
    limited = f"import socket; socket.setdefaulttimeout(2)\n{ask}"
    assert neighbours
    assert docker(*command, limited).strip() != "0"
