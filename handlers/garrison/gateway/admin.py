"""Ask Envoy about itself, over the private socket of its admin interface: what drains, what runs, what is behind it."""

import http.client
import re
from dataclasses import dataclass
from pathlib import Path

from garrison.errors import Undecided
from garrison.unix_http import send_request

PATHS = ("/healthcheck/fail", "/drain_listeners", "/ready", "/listeners", "/clusters")
STAT_PREFIX = "gateway"
ACTIVE_REQUESTS = f"http.{STAT_PREFIX}.downstream_rq_active"
TIMEOUT_S = 5.0
_VERSIONS = "/stats?filter=version_text$"
_REFUSED = r"/stats?filter=\.update_(rejected|failure)$"
_VERSION = re.compile(r'^(\S+)\.version_text: "([^"\n]*)"$', re.MULTILINE)
_COUNT = re.compile(r"^(\S+): (\d+)$", re.MULTILINE)
_HEALTHY = re.compile(r"^cluster\.(?:inference|guard-rest|guard-grpc)\.membership_healthy: (\d+)$", re.MULTILINE)
_HOST = re.compile(r"^(inference|guard-rest|guard-grpc)::(/[^\n]*?)::(rq_active|health_flags)::(\S+)$", re.MULTILINE)
_LISTENER = re.compile(r"^gateway::\[?([0-9a-fA-F.:]+?)\]?:([0-9]+)$", re.MULTILINE)


def ask_admin(admin_socket: Path, method: str, target: str) -> str:
    """Return what the admin interface says.

    Raises:
        Undecided: it does not answer, or not with 200.
    """
    try:
        answer = send_request(admin_socket, method, target, TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        raise Undecided(f"{admin_socket}: Envoy's admin interface does not answer ({error})") from error
    if answer.status != 200:
        raise Undecided(f"{admin_socket}: Envoy's admin interface answers {target} with {answer.status}")
    return answer.body.decode("utf-8", "replace")


def count(admin_socket: Path, name: str) -> int:
    """Return one of Envoy's statistics.

    Raises:
        Undecided: Envoy does not answer, or does not know it.
    """
    stats = ask_admin(admin_socket, "GET", f"/stats?filter=^{name}$".replace(".", r"\."))
    match = re.search(rf"^{re.escape(name)}: (\d+)$", stats, re.MULTILINE)
    if match is None:
        raise Undecided(f"Envoy's statistics do not hold {name}")
    return int(match[1])


def taken_versions(admin_socket: Path) -> dict[str, str]:
    """Return the version of each resource that Envoy has taken from a file, by the beginning of its statistics.

    Raises:
        Undecided: Envoy does not answer.
    """
    return dict(_VERSION.findall(ask_admin(admin_socket, "GET", _VERSIONS)))


def count_refused(admin_socket: Path) -> dict[str, int]:
    """Return how many files of each resource Envoy has not taken, by the beginning of its statistics.

    Raises:
        Undecided: Envoy does not answer.
    """
    found: dict[str, int] = {}
    for name, number in _COUNT.findall(ask_admin(admin_socket, "GET", _REFUSED)):
        resource = name.rpartition(".")[0]
        found[resource] = found.get(resource, 0) + int(number)
    return found


def count_servers(admin_socket: Path) -> int:
    """Count the servers and guards that take requests; one that is spoken to in two ways counts twice.

    Raises:
        Undecided: Envoy does not answer, or knows none.
    """
    found = _HEALTHY.findall(ask_admin(admin_socket, "GET", r"/stats?filter=^cluster\..*\.membership_healthy$"))
    if not found:
        raise Undecided("Envoy's statistics do not hold a server")
    return sum(map(int, found))


@dataclass
class Server:
    """What Envoy knows of one server or guard, by one of the clusters that it is in."""

    active: int = 0
    healthy: bool = False


def list_servers(admin_socket: Path) -> dict[tuple[str, str], Server]:
    """Return how many requests each server has now, and whether it takes any, by cluster and socket.

    Raises:
        Undecided: Envoy does not answer.
    """
    found: dict[tuple[str, str], Server] = {}
    for cluster, path, name, value in _HOST.findall(ask_admin(admin_socket, "GET", "/clusters")):
        server = found.setdefault((cluster, path), Server())
        if name == "rq_active":
            server.active = int(value)
        else:
            server.healthy = value == "healthy"
    return found


def find_listener(admin_socket: Path) -> tuple[str, int]:
    """Return the address and port on which Envoy listens.

    Raises:
        Undecided: it does not answer, or listens nowhere.
    """
    match = _LISTENER.search(ask_admin(admin_socket, "GET", "/listeners"))
    if match is None:
        raise Undecided(f"{admin_socket}: Envoy listens on no port")
    return match[1], int(match[2])
