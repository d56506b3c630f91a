"""What a scene is furnished with before the attacker enters: secrets, bystanders, listeners, a terminal."""

import contextlib
import errno
import os
import pty
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from attacks.escape.bystander import start_bystander
from attacks.escape.model import Scene

LISTEN_S = 0.2
DISCARD_PORT = 9
ABSENT = {errno.EPERM, errno.ENOSYS, errno.EADDRNOTAVAIL}


def secret_file(scene: Scene) -> None:
    """Lay a file with a secret outside, as a key would lie there."""
    path = scene.place / "server.key"
    path.write_text(scene.secret)
    path.chmod(0o600)
    scene.world["secret"] = str(path)


def secret_name(scene: Scene) -> None:
    """Lay a file outside whose name is the secret."""
    (scene.place / scene.secret).touch()


def bystander(scene: Scene) -> None:
    """Start a process that has nothing to do with the attacker."""
    started = start_bystander(scene.place, scene.secret)
    scene.cleaning.callback(started.stop)
    scene.kept["bystander"] = started
    scene.world.update(bystander=started.pid, address=started.address, descriptor=started.descriptor)


def remember(read: Callable[[Scene], object]) -> Callable[[Scene], None]:
    """Keep how something is before the attack; `effects.differs` compares."""

    def keep(scene: Scene) -> None:
        scene.kept["before"] = read(scene)

    return keep


def terminal(scene: Scene) -> None:
    """Open a terminal, as an operator's, and hear what arrives at it."""
    ours, theirs = pty.openpty()
    scene.world["terminal"] = os.ttyname(theirs)

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(ours, 4096):
                scene.heard.append(data)

    scene.cleaning.callback(os.close, theirs)
    _run(read)


def stream_listener(family: socket.AddressFamily, address: Callable[[Scene], object], name: str) -> Callable[..., None]:
    """Return what listens for connections and hears the first bytes of each, under `name` in the world."""

    def listen(scene: Scene) -> None:
        if (listener := _open(family, socket.SOCK_STREAM, address(scene))) is None:
            scene.world[name] = ["127.0.0.1" if family == socket.AF_INET else "::1", DISCARD_PORT]
            return
        with contextlib.suppress(OSError):  # unix sockets have no such option
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8)
        listener.listen()
        scene.cleaning.callback(_close, listener)
        scene.world[name] = _spell(listener.getsockname())
        _run(lambda: _accept(listener, scene))

    return listen


def datagram_listener(
    family: socket.AddressFamily, address: Callable[[Scene], object], name: str
) -> Callable[..., None]:
    """Return what hears datagrams, under `name` in the world."""

    def listen(scene: Scene) -> None:
        if (listener := _open(family, socket.SOCK_DGRAM, address(scene))) is None:
            scene.world[name] = ["127.0.0.1", DISCARD_PORT]
            return
        scene.cleaning.callback(_close, listener)
        scene.world[name] = _spell(listener.getsockname())
        _run(lambda: _receive(listener, scene))

    return listen


def accomplice(scene: Scene) -> None:
    """Listen on a unix socket, and hand an open descriptor of the secret file to whoever connects."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(scene.place / "accomplice"))
    listener.listen()
    scene.cleaning.callback(_close, listener)
    scene.world["accomplice"] = str(scene.place / "accomplice")

    def hand_over() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, Path(scene.world["secret"]).open("rb") as file:
                    socket.send_fds(connection, [b"here"], [file.fileno()])

    _run(hand_over)


def free_port(scene: Scene) -> None:
    """Choose a port for the attacker to listen on."""
    scene.world["port"] = DISCARD_PORT
    if (probe := _open(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))) is not None:
        with probe:
            scene.world["port"] = probe.getsockname()[1]


def knock(scene: Scene, family: socket.AddressFamily, address: object) -> None:
    """Connect to where the attacker may listen, and hear what it says."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as visitor:
        visitor.settimeout(LISTEN_S)
        visitor.connect(address)
        scene.heard.append(visitor.recv(100))


def _open(family: socket.AddressFamily, kind: socket.SocketKind, address: object) -> socket.socket | None:
    """Open a socket; None where nobody can have one of this family, as in a container without a network."""
    with contextlib.ExitStack() as failing:
        try:
            opened = failing.enter_context(socket.socket(family, kind))
            opened.bind(address)
        except OSError as error:
            if error.errno not in ABSENT or family == socket.AF_UNIX:
                raise
            return None
        failing.pop_all()
    return opened


def _accept(listener: socket.socket, scene: Scene) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            _run(lambda connection=connection: _hear(connection, scene))


def _hear(connection: socket.socket, scene: Scene) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        while data := connection.recv(4096):
            scene.heard.append(data)


def _receive(listener: socket.socket, scene: Scene) -> None:
    with contextlib.suppress(OSError):
        while True:
            scene.heard.append(listener.recv(4096))


def _close(listener: socket.socket) -> None:
    """Close a socket, and wake the thread that waits at it."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _spell(name: object) -> object:
    """Return a socket's address as the attacker's text can hold it."""
    if isinstance(name, bytes):
        return name.decode("latin-1")
    return list(name) if isinstance(name, tuple) else name


def _run(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
