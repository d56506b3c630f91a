"""What the stack listens on: every process, every socket, compared with the whole expected list.

TorchServe's three HTTP listeners are files in a directory that only their owner enters, and nothing has a name in the
abstract namespace, where file permissions do not count. Its two gRPC servers, which no setting switches off, are not in
the renewed jar. A worker listens nowhere: its connection was handed in.
"""

import stat
from pathlib import Path

import pytest

from garrison.unix_http import send_request
from stack.observing import find_family, list_listeners
from stack.running import RunningStack

NETWORK = {"tcp", "tcp6", "udp", "udp6", "raw", "raw6"}
SOCKETS = {"inference.sock": "java", "management.sock": "java", "metrics.sock": "java", "admin.sock": "envoy",
           "ready.sock": "python", "status.sock": "python", "watch.sock": "python",
           "gateway-watch.sock": "python"}  # fmt: skip


@pytest.fixture(scope="module")
def family(running: RunningStack) -> dict[int, str]:
    """Every process of the stack by its id: `serve` itself, java, Envoy, the worker and its supervisor."""
    return {pid: "python" if name.startswith("python") else name for pid, name in find_family(running.pid).items()}


@pytest.fixture(scope="module")
def listeners(family: dict[int, str]) -> list[tuple[str, str, str]]:
    """Program, protocol and address of everything that accepts connections."""
    return [(family[pid], protocol, address) for pid, protocol, address in list_listeners(list(family))]


def test_the_family_is_complete(family: dict[int, str], running: RunningStack) -> None:
    assert sorted(family.values()) == ["envoy", "java", "python", "python", "python"]  # serve, supervisor, worker
    assert set(running.worker_pids()) < set(family)


def test_the_network_sees_the_gateway_and_nothing_else(
    listeners: list[tuple[str, str, str]], running: RunningStack
) -> None:
    found = [(program, protocol[:3], address) for program, protocol, address in listeners if protocol in NETWORK]
    assert found == [("envoy", "tcp", f"127.0.0.1:{running.target.port}")]


def test_everything_else_is_a_known_file(listeners: list[tuple[str, str, str]], running: RunningStack) -> None:
    found = sorted((Path(path), program) for program, protocol, path in listeners if protocol == "unix")
    assert found == sorted((running.run_directory / name, program) for name, program in SOCKETS.items())
    assert not [path for path, _ in found if not path.is_absolute()]  # @ is the abstract namespace


def test_only_their_owner_gets_to_the_sockets(running: RunningStack) -> None:
    assert stat.S_IMODE(running.run_directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "target", "status"),
    [
        ("inference.sock", "/ping", 200),
        ("management.sock", "/models/digits", 200),
        ("metrics.sock", "/metrics", 200),
        ("ready.sock", "/", 200),
        ("admin.sock", "/ready", 200),
    ],
)
def test_the_files_are_the_listeners(running: RunningStack, name: str, target: str, status: int) -> None:
    assert send_request(running.run_directory / name, "GET", target, 5).status == status
