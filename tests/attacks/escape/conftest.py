"""Each server is started once for all escapes that are to be tried; a run of a few tests tries only those."""

import os
from collections.abc import Sequence

import pytest

from attacks.escape.catalogue import ESCAPES
from attacks.escape.model import Escape
from attacks.escape.trials import CelledOutcome, Outcome, try_in_cells, try_in_stock

AT_ONCE = 20  # in one celled server; each is a process with PyTorch in it


@pytest.fixture(scope="session")
def in_stock(request: pytest.FixtureRequest) -> dict[str, Outcome]:
    """What was seen of each escape in stock TorchServe."""
    return try_in_stock(_choose(request, "in_stock"))


@pytest.fixture(scope="session")
def in_cells(request: pytest.FixtureRequest) -> list[CelledOutcome]:
    """What was seen of each escape in a cell, server by server."""
    chosen = _choose(request, "in_cells") or ESCAPES[:AT_ONCE]
    servers = -(-len(chosen) // AT_ONCE)
    return [try_in_cells(chosen[start::servers]) for start in range(servers)]  # every family in every server


def _choose(request: pytest.FixtureRequest, fixture: str) -> Sequence[Escape]:
    """Return the escapes that the tests of this run ask a fixture for, and that this user can do at all."""
    items = [item for item in request.session.items if fixture in getattr(item, "fixturenames", ())]
    params = [getattr(item, "callspec", None) for item in items]
    names = {one.params["escape"].name for one in params if one is not None and "escape" in one.params}
    return [one for one in ESCAPES if one.name in names and can_be_tried(one)]


def can_be_tried(escape: Escape) -> bool:
    return not escape.root or os.geteuid() == 0
