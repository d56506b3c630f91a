"""Count who is connected to a server's unix socket, also from another network namespace.

A connection is listed in `/proc/net/unix` of the namespace that it came from: one of a gateway in another container is
not in ours. It is in the table of the server's open files all the same, as a socket that our namespace does not list.
"""

from pathlib import Path

from garrison.errors import Undecided

_TABLES = ("unix", "tcp", "tcp6", "udp", "udp6")
_INODE = {"unix": 6, "tcp": 9, "tcp6": 9, "udp": 9, "udp6": 9}  # the column, from 0
_LISTENS = 0x10000  # __SO_ACCEPTCON


def find_connections(pid: int, listener: Path, process: Path = Path("/proc")) -> frozenset[str]:
    """Return the inodes of a process's sockets that are connections to `listener`, or of another namespace.

    Raises:
        Undecided: what the process has open cannot be read.
    """
    try:
        own = _list_sockets(process / str(pid) / "fd")
        elsewhere = set(own)
        connected = set()
        for name in _TABLES:
            for fields in _read_table(process / "self" / "net" / name):
                inode = fields[_INODE[name]]
                elsewhere.discard(inode)
                if name == "unix" and fields[7:] == [str(listener)] and not int(fields[3], 16) & _LISTENS:
                    connected.add(inode)
    except (OSError, ValueError, IndexError) as error:
        raise Undecided(f"the connections of process {pid} cannot be counted ({error})") from error
    return frozenset(elsewhere | (connected & own))


def _list_sockets(descriptors: Path) -> set[str]:
    links = [str(link.readlink()) for link in descriptors.iterdir()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


def _read_table(path: Path) -> list[list[str]]:
    """Return the rows of one of the kernel's tables; one that the kernel does not have, such as IPv6's, is empty."""
    try:
        return [line.split(None, 7 if path.name == "unix" else -1) for line in path.read_text().splitlines()[1:]]
    except FileNotFoundError:
        return []
