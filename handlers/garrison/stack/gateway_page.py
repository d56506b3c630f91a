"""What the gateway's launcher tells Prometheus: its counts of answers, and what Envoy and its own files say now.

Envoy is asked for a few kilobytes, whatever number of clients there is; what it does not answer in time is left out.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from garrison.errors import Undecided
from garrison.gateway import admin
from garrison.gateway.replies import BUDGET_REPLIES, OTHER, REPLIES
from garrison.watch import families
from garrison.watch.counts import Series

REASONS = tuple(sorted({reply.reason for reply in (*REPLIES.values(), *BUDGET_REPLIES.values(), OTHER)}))


def measure_servers(admin_socket: Path, names: Mapping[tuple[str, str], str]) -> Iterator[tuple[Series, float]]:
    """Go through the servers and guards: what each has to do, and whether it takes requests by every way."""
    found: dict[tuple[str, str], admin.Server] = {}
    with contextlib.suppress(Undecided):
        found = admin.list_servers(admin_socket)
    for name in dict.fromkeys(names.values()):
        ways = [found[key] for key, named in names.items() if named == name and key in found]
        if ways:
            yield (families.GATEWAY_PROGRESS.name, (name,)), sum(way.active for way in ways)
            yield (families.GATEWAY_HEALTHY.name, (name,)), all(way.healthy for way in ways)
