"""The same bytes where no gateway is: every row reaches the server, so it is the gateway that stops it."""

import contextlib
import time

import pytest

from attacks.gateway.door import PATIENCE_S, Door
from attacks.gateway.exchange import BROKEN, Http2
from attacks.gateway.rows import GROUPS
from attacks.gateway.rows.row import Row

# Not the floods: what they take up is the gateway itself, see test_weakened.py.
REACHING = [group for group in GROUPS if group != "floods"]


@pytest.mark.parametrize("group", REACHING)
def test_it_all_gets_through(naive: Door, group: str) -> None:
    assert [row.name for row in GROUPS[group] if not gets_through(naive, row)] == []


def gets_through(door: Door, row: Row) -> bool:
    """Say whether the server saw the attack, and in it what should not be there."""
    door.forget()
    with door.connect("h2" if row.is_http2 else "http/1.1") as connection:
        if isinstance(row.attack, bytes):
            connection.sendall(door.grounds.fill(row.attack))
        elif callable(row.attack):
            row.attack(Http2(connection, door.grounds.fill))
        with contextlib.suppress(*BROKEN):
            connection.unwrap()  # the end: a server that waits for more of a body takes what it has
        deadline = time.monotonic() + PATIENCE_S
        while not (seen := door.seen()) and time.monotonic() < deadline:
            time.sleep(0.002)
    return bool(seen) and (not row.absent or any(part in one.raw for one in seen for part in row.absent))
