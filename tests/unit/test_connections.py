"""Who is connected to a server's socket: counted from its open files, so that no network namespace hides anybody."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from garrison.errors import Undecided
from garrison.stack.connections import find_connections

SERVER = """\
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
others = [socket.socketpair(), socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
print("ready", flush=True)
held = []
while True:
    connection, _ = listener.accept()
    held.append(connection)
    if connection.recv(1) == b"x":
        held.clear()
    connection.send(b".")
"""
CLIENT = """\
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.send(b"-")
client.recv(1)
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process that keeps its connections until it is sent an x; it has other sockets, too."""
    path = tmp_path / "s.sock"
    with subprocess.Popen([sys.executable, "-I", "-c", SERVER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid, path
        process.kill()


@pytest.fixture
def connect(server: tuple[int, Path]) -> Iterator[Callable[..., None]]:
    started = []

    def connect(*prefix: str) -> None:
        command = [*prefix, sys.executable, "-I", "-c", CLIENT, str(server[1])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"connected\n"

    yield connect
    for process in started:
        process.communicate(timeout=10)


def test_each_connection_is_found_until_it_is_closed(server: tuple[int, Path], connect: Callable[..., None]) -> None:
    assert find_connections(*server) == frozenset()
    connect()
    connect()
    assert len(find_connections(*server)) == 2
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(server[1]))
        last.send(b"x")  # closes all but its own
        last.recv(1)
        assert len(find_connections(*server)) == 1


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="making a namespace needs root")
def test_one_from_another_network_namespace_is_found(server: tuple[int, Path], connect: Callable[..., None]) -> None:
    connect("unshare", "--net")
    assert str(server[1]) + "\n" not in [line[-len(str(server[1])) - 1 :] for line in connected_here()]
    assert len(find_connections(*server)) == 1


def connected_here() -> list[str]:
    lines = Path("/proc/self/net/unix").read_text().splitlines(keepends=True)[1:]
    return [line for line in lines if not int(line.split()[3], 16) & 0x10000]


def test_a_process_that_is_gone_is_undecided(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    time.sleep(0.01)
    with pytest.raises(Undecided, match="cannot be counted"):
        find_connections(gone.pid, tmp_path / "s.sock")
