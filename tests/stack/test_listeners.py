"""What the stack listens on: every process, every socket, compared with the whole expected list.

TorchServe starts two gRPC servers that cannot be switched off. They listen on the broadcast address, where Linux lets a
TCP server be and nobody come: it never answers a SYN that was sent there, and refuses to send one. Its three HTTP
listeners are files in a directory that only their owner enters, and nothing has a name in the abstract namespace, where
file permissions do not count. A worker listens nowhere: its connection was handed in.
"""

import errno
import os
import select
import socket
import stat
import struct
import time
from pathlib import Path

import pytest

from garrison.unix_http import send_request
from stack.observing import find_family, list_listeners
from stack.running import RunningStack

ETH_P_IP = 0x0800
NETWORK = {"tcp", "tcp6", "udp", "udp6", "raw", "raw6"}
SOCKETS = {"inference.sock": "java", "management.sock": "java", "metrics.sock": "java", "admin.sock": "envoy",
           "ready.sock": "python", "watch.sock": "python"}  # fmt: skip


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


def test_the_network_sees_the_gateway_and_two_grpc_ports_that_nobody_reaches(
    listeners: list[tuple[str, str, str]], running: RunningStack
) -> None:
    found = [(program, protocol[:3], address) for program, protocol, address in listeners if protocol in NETWORK]
    gateway = ("envoy", "tcp", f"127.0.0.1:{running.target.port}")
    assert found.count(gateway) == 1
    others = [(program, protocol, address.rpartition(":")[0]) for program, protocol, address in found if
              (program, protocol, address) != gateway]  # fmt: skip
    assert others == [("java", "tcp", "255.255.255.255")] * 2


@pytest.mark.parametrize("address", ["255.255.255.255", "127.255.255.255", "127.0.0.1", "0.0.0.0", "::1", "own"])
def test_nobody_connects_to_grpc(listeners: list[tuple[str, str, str]], address: str) -> None:
    ports = [int(where.rpartition(":")[2]) for program, protocol, where in listeners if
             program == "java" and protocol in NETWORK]  # fmt: skip
    assert len(ports) == 2
    if address == "own":
        address = socket.gethostbyname(socket.gethostname())
    for port in ports:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
            client.settimeout(5)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            with pytest.raises(OSError) as refusal:
                client.connect((address, port))
            assert refusal.value.errno in (errno.ENETUNREACH, errno.ECONNREFUSED, errno.EACCES)


@pytest.mark.skipif(os.geteuid() != 0, reason="forging a packet needs root")
def test_not_even_a_forged_packet_is_answered(listeners: list[tuple[str, str, str]], running: RunningStack) -> None:
    port = next(int(where.rpartition(":")[2]) for program, protocol, where in listeners if
                program == "java" and protocol in NETWORK)  # fmt: skip
    assert knock("127.0.0.1", running.target.port) == "SYN, ACK"  # so that silence means something
    assert knock("127.0.0.1", port) == "RST, ACK"
    assert knock("255.255.255.255", port) == "silence"


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


def knock(address: str, port: int) -> str:
    """Put a SYN on the loopback interface, whatever connect() would say; return what answers within two seconds."""
    ours = 61_000 + port % 1000
    source, target = socket.inet_aton("127.0.0.1"), socket.inet_aton(address)
    header = struct.pack("!HHIIBBHHH", ours, port, 1, 0, 5 << 4, 0x02, 64_000, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header))
    header = header[:16] + struct.pack("!H", checksum(pseudo + header)) + header[18:]
    packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(header), 0, 0, 64, socket.IPPROTO_TCP, 0, source, target)
    packet = packet[:10] + struct.pack("!H", checksum(packet)) + packet[12:]
    raw, sniffer = (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW), (socket.AF_PACKET, socket.SOCK_DGRAM)
    with socket.socket(*raw) as sender, socket.socket(*sniffer, socket.htons(ETH_P_IP)) as wire:
        wire.bind(("lo", ETH_P_IP))
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sender.sendto(packet + header, (address, 0))
        deadline = time.monotonic() + 2
        while select.select([wire], [], [], max(0, deadline - time.monotonic()))[0]:
            seen = wire.recv(200)
            if seen[9] == socket.IPPROTO_TCP and seen[20:24] == struct.pack("!HH", port, ours):
                return {0x12: "SYN, ACK", 0x14: "RST, ACK"}.get(seen[33], f"flags {seen[33]:#x}")
    return "silence"


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
