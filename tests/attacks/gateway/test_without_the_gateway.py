"""The same bytes where no gateway is: every row reaches the server, so it is the gateway that stops it."""

import pytest

from attacks.gateway.door import Door
from attacks.gateway.rows import GROUPS

# Frames that no library takes for HTTP/2: there is no request in them that could get through.
NO_REQUEST = ("block: ", "frame: ")


@pytest.mark.parametrize("group", GROUPS)
def test_it_all_gets_through(naive: Door, group: str) -> None:
    rows = [row for row in GROUPS[group] if not row.name.startswith(NO_REQUEST)]
    assert [row.name for row in rows if not naive.lets_through(row)] == []
