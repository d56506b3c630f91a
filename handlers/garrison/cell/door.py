"""Let the server in, once: where a worker's socket lies enters, the one connection leaves.

The worker itself makes no socket, so that it can never listen, connect or accept; and behind the first connection the
door is closed and gone. Whoever else connects is turned away: the kernel tells which process of which user it is.
"""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Door:
    """A listening socket, whose process may connect to it, and what is said, with the worker's id, when it is open."""

    listener: socket.socket
    path: Path
    server: int
    announce: Callable[[int], bytes]

    def accept(self) -> tuple[socket.socket | None, str]:
        """Return the server's connection, or nothing and who came in its place."""
        connection, _ = self.listener.accept()
        peer, user, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if (peer, user) == (self.server, os.geteuid()):
            return connection, ""
        connection.close()
        return None, f"process {peer} of user {user}"

    def close(self) -> None:
        """Stop listening, and take the socket's name away."""
        self.listener.close()
        self.path.unlink(missing_ok=True)


def open_door(path: Path, server: int, announce: Callable[[int], bytes]) -> Door:
    """Listen at a path, in place of what may be there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return Door(listener, path, server, announce)
