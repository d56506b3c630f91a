"""Stop taking requests and wait for those in flight, before Envoy or a server behind it is stopped.

SIGTERM alone makes Envoy cut off every request in flight.
"""

import http.client
import re
import time
from pathlib import Path

from garrison.errors import Undecided
from garrison.gateway.connection import STAT_PREFIX
from garrison.unix_http import send_request

ACTIVE_REQUESTS = f"http.{STAT_PREFIX}.downstream_rq_active"
POLL_S = 0.1
ADMIN_TIMEOUT_S = 5.0


def drain_envoy(admin_socket: Path, timeout_s: float) -> bool:
    """Close the listener, let requests in flight finish, and return True if all did within `timeout_s` seconds.

    1. Fail the health check: from now on every answer closes its connection (HTTP/1.1) or sends GOAWAY (HTTP/2).
    2. Close the listeners: new connections are refused at once. (With `graceful` Envoy would go on accepting until
       its drain time is over.)
    3. Wait until no request is active.

    Envoy itself goes on running; the caller ends it with SIGTERM.

    Raises:
        Undecided: Envoy's admin socket does not answer as it should.
    """
    deadline = time.monotonic() + timeout_s
    _ask(admin_socket, "POST", "/healthcheck/fail")
    _ask(admin_socket, "POST", "/drain_listeners")
    while count_active(admin_socket) > 0:
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def count_active(admin_socket: Path) -> int:
    """Return how many clients' requests Envoy is working on.

    Raises:
        Undecided: as for `drain_envoy`.
    """
    stats = _ask(admin_socket, "GET", f"/stats?filter=^{ACTIVE_REQUESTS}$".replace(".", r"\."))
    match = re.search(rf"^{re.escape(ACTIVE_REQUESTS)}: (\d+)$", stats, re.MULTILINE)
    if match is None:
        raise Undecided(f"Envoy's statistics do not hold {ACTIVE_REQUESTS}")
    return int(match[1])


def _ask(admin_socket: Path, method: str, target: str) -> str:
    try:
        answer = send_request(admin_socket, method, target, ADMIN_TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        raise Undecided(f"{admin_socket}: Envoy's admin interface does not answer ({error})") from error
    if answer.status != 200:
        raise Undecided(f"{admin_socket}: Envoy's admin interface answers {target} with {answer.status}")
    return answer.body.decode("utf-8", "replace")
