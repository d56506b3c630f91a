"""A model's own code tries to get out of its cell; see the package for the story, and the catalogue for the escapes."""

import os
import random
import re
from typing import Any

import pytest

from attacks.escape.catalogue import ESCAPES, FAMILIES
from attacks.escape.model import MOMENTS, Escape
from attacks.escape.trials import CelledOutcome, Outcome, try_in_cells

# In a container its profile denies who watches, too, what he would look with: attributes, priorities, datagrams.
UNWATCHED = {"set-attribute", "slow-down-sibling", "idle-sibling", "unix-datagram"}


SAMPLED = 16  # of the escapes, in stock, in CI; drawn by the commit, whose name .ci/run puts into GARRISON_SEED


def list_in_stock() -> list[Any]:
    """Return all escapes as parameters; the mark `campaign` is on those that are not in today's sample."""
    sample = random.Random(os.environ.get("GARRISON_SEED", "")).sample([escape.name for escape in ESCAPES], SAMPLED)
    return [_param(escape, () if escape.name in sample else pytest.mark.campaign) for escape in ESCAPES]


def list_in_cells() -> list[Any]:
    """Return all escapes as parameters; the mark `contained` is on those that a container can try."""
    return [_param(escape, () if escape.name in UNWATCHED else pytest.mark.contained) for escape in ESCAPES]


def _param(escape: Escape, mark: Any) -> Any:
    root = pytest.mark.skipif(os.geteuid() != 0, reason="not even stock can, unless it is root")
    return pytest.param(escape, id=escape.name, marks=root if escape.root else mark)


ENDED = {  # while it serves, by the settings of the release
    "raw-clone": "it called clone",
    "kill-neighbour": "it called kill",
    "trace": "it called ptrace",
    "dns-out": "it called socket",
    "io-uring": "it called io_uring_setup",
}
REFUSED_FIRST = {"io-uring"}  # by a container's own profile, before the cell hears of it: nobody is ended for it there
DEMANDED = [
    "shared object", "/proc/self/mem", "never on a disk", "ring in shared memory", "LD_PRELOAD", "neighbour's worker",
    "Register a model", "gRPC", "private key", "another model's weights", "own model's directory", "with processes",
    "memory until nothing is left", "Fill the disk", "Print so much", "measurement", "process id", "Kill the worker",
    "link", "DNS",
]  # fmt: skip


@pytest.mark.parametrize("escape", list_in_stock())
def test_in_stock_torchserve_it_works(escape: Escape, in_stock: dict[str, Outcome]) -> None:
    """Or its failure in a cell would prove nothing."""
    outcome = in_stock[escape.name]
    assert outcome.seen, f"no effect; the attacker reported: {outcome.report}"


@pytest.mark.parametrize("escape", list_in_cells())
def test_in_a_cell_it_is_tried_and_stopped(escape: Escape, in_cells: list[CelledOutcome]) -> None:
    server = next(one for one in in_cells if escape.name in one.escapes)
    outcome = server.escapes[escape.name]
    assert not outcome.seen
    assert was_tried(escape, outcome, server), f"the attacker reported: {outcome.report}"


def was_tried(escape: Escape, outcome: Outcome, server: CelledOutcome) -> bool:
    """Say whether the attacker was stopped where it attacked: by a refusal that it reports, or by its worker's end."""
    if server.ended.get(escape.name):
        return True
    own = [line for line in outcome.report.splitlines() if line.startswith(f"{escape.when}: ")]
    return not escape.dies and any(re.search(escape.refused, line) for line in own)


def test_the_neighbours_answer_all_the_time_as_if_nothing_happened(in_cells: list[CelledOutcome]) -> None:
    for server in in_cells:
        assert server.asked >= len(server.escapes)
        assert server.wrong == []
        assert server.replaced == []


def test_there_is_no_process_but_a_supervisor_and_its_worker_each(in_cells: list[CelledOutcome]) -> None:
    assert [server.strangers for server in in_cells] == [[]] * len(in_cells)


@pytest.fixture(scope="module")
def where_it_ends(request: pytest.FixtureRequest) -> CelledOutcome:
    """What was seen at a server with the release's `on_violation`; a run of a few tests tries only theirs."""
    params = [getattr(item, "callspec", None) for item in request.session.items]
    names = {one.params["ended"] for one in params if one is not None and "ended" in one.params}
    return try_in_cells([one for one in ESCAPES if one.name in names], on_violation="end")


@pytest.mark.parametrize(
    "ended", [pytest.param(name, marks=() if name in REFUSED_FIRST else pytest.mark.contained) for name in ENDED]
)
def test_who_attacks_while_serving_is_ended(ended: str, where_it_ends: CelledOutcome) -> None:
    """What the others may do to report, `on_violation: fail`, is not what the release does."""
    assert where_it_ends.ended[ended] == [ENDED[ended]]
    assert where_it_ends.escapes[ended].seen == ""
    assert (where_it_ends.wrong, where_it_ends.replaced, where_it_ends.strangers) == ([], [], [])


def test_the_catalogue_has_what_it_must() -> None:
    names = [escape.name for escape in ESCAPES]
    assert len(names) == len(set(names)) >= 64
    assert {escape.when for escape in ESCAPES} == set(MOMENTS)
    assert all(FAMILIES.values())
    stories = "\n".join(escape.story for escape in ESCAPES)
    assert [words for words in DEMANDED if words not in stories] == []
    assert len({(escape.source, escape.prepare) for escape in ESCAPES}) == len(ESCAPES)
