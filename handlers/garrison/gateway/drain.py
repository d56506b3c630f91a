"""Stop taking requests and wait for those in flight, before Envoy or a server behind it is stopped.

SIGTERM alone makes Envoy cut off every request in flight.
"""

import time
from pathlib import Path

from garrison.gateway.admin import ACTIVE_REQUESTS, ask_admin, count

POLL_S = 0.1


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
    ask_admin(admin_socket, "POST", "/healthcheck/fail")
    ask_admin(admin_socket, "POST", "/drain_listeners")
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
    return count(admin_socket, ACTIVE_REQUESTS)
