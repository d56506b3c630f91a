"""The same bytes where no gateway is: every row reaches the server, so it is the gateway that stops it."""

import pytest

from attacks.gateway.door import Door
from attacks.gateway.rows import GROUPS

# Floods that Envoy's libraries stop; the others get through an Envoy without limits, see test_weakened.py. In the
# malformed frames there is no request that could get through.
FLOODS = {
    "made you reset",
    "more streams than allowed",
    "WINDOW_UPDATE",
    "an endless CONTINUATION",
    "CONTINUATION of nothing",
}


@pytest.mark.parametrize("group", GROUPS)
def test_it_all_gets_through(naive: Door, group: str) -> None:
    rows = [row for row in GROUPS[group] if group != "floods" or row.name in FLOODS]
    assert [row.name for row in rows if not naive.lets_through(row)] == []
