"""The attacks on admission, and the escapes from a cell, tried inside containers of the images that do the work.

Hostile models meet the scan, the vetting and the admission of the tools' image; hostile handlers run in the model
server's. Each test that is run inside is a test here, so that one that was not run is one that fails. What
is not run inside is listed with its reason.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from attacks.artifacts.archives import list_hostile as list_hostile_archives
from attacks.artifacts.weights import list_benign as list_benign_weights
from attacks.artifacts.weights import list_hostile as list_hostile_weights
from attacks.escape.catalogue import ESCAPES
from attacks.escape.test_escapes import REFUSED_FIRST, UNWATCHED
from attacks.test_hostile_models import DIRECTORIES
from containers.inside import Run, collect, run_inside

ATTACKS = "tests/attacks"
ESCAPES_FILE = f"{ATTACKS}/escape/test_escapes.py"
HANDLERS_FILE, WEIGHTS_FILE = f"{ATTACKS}/test_hostile_handlers.py", f"{ATTACKS}/test_hostile_weights.py"
WITHOUT_GATE = (
    "shows what happens without a gate, in any Python; an image without shell and programs is no place for it"
)
IN_STOCK = "stock TorchServe is in no image"
NOT_HEARD = "the container's profile refuses it before the cell hears of it; that it does not work is tried"
NEEDS_ROOT = "not even stock can, unless it is root; nobody is root in these images"
NOT_SEEN = "the container's profile denies even who watches the call; it is tried outside"
NOT_MADE = "the profile of the tools lets nobody make one; models with it, made outside, are tried"
LINKED = ("a link to the same bytes", "a link to the same directory", "a link to the same signature", "a pipe")
# The profile of the tools lets nobody make a link, a pipe or a socket, nor PyTorch write a file.
MADE_OUTSIDE = [
    case
    for case in (*list_hostile_archives(), *list_hostile_weights())
    if case.name.startswith("directory-") or case.name in DIRECTORIES
] + list_benign_weights()


@dataclass(frozen=True)
class Suite:
    """Tests that are run inside a container of a service, and those that are not, each with the reason."""

    service: str
    files: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()  # modules that must be complete in the image itself

    @property
    def arguments(self) -> list[str]:
        return [*self.files, *(part for test in self.left_out for part in ("--deselect", test))]


SUITES = {
    "admission": Suite(
        "admit",
        (
            f"{ATTACKS}/test_hostile_archives.py",
            f"{ATTACKS}/test_hostile_models.py",
            f"{ATTACKS}/test_tampering.py",
            HANDLERS_FILE,
            WEIGHTS_FILE,
        ),
        {
            f"{HANDLERS_FILE}::test_without_vetting_the_handlers_do_what_they_say": WITHOUT_GATE,
            f"{WEIGHTS_FILE}::test_loaded_without_a_scan_the_canary_appears": WITHOUT_GATE,
            **{f"{ATTACKS}/test_tampering.py::test_changed_files_are_refused[{name}]": NOT_MADE for name in LINKED},
        },
        ("garrison.cli", "garrison.admission.admit", "garrison.admission.scan", "garrison.admission.vet"),
    ),
    "escapes": Suite(
        "torchserve",
        (ESCAPES_FILE,),
        {
            f"{ESCAPES_FILE}::test_in_stock_torchserve_it_works": IN_STOCK,
            **{f"{ESCAPES_FILE}::test_who_attacks_while_serving_is_ended[{name}]": NOT_HEARD for name in REFUSED_FIRST},
            **{
                f"{ESCAPES_FILE}::test_in_a_cell_it_is_tried_and_stopped[{escape.name}]": reason
                for escape in ESCAPES
                for reason in ([NEEDS_ROOT] if escape.root else [NOT_SEEN] if escape.name in UNWATCHED else [])
            },
        },
        ("garrison.stack.server", "garrison.torchserve.loop"),
    ),
}


@functools.cache
def run_suite(name: str) -> Run:
    """Run a suite in its container, once."""
    suite = SUITES[name]
    return run_inside(suite.service, suite.arguments, suite.first, MADE_OUTSIDE if name == "admission" else ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test here of each that is to be run inside."""
    if "test" in metafunc.fixturenames:
        found = [(name, test) for name, suite in SUITES.items() for test in collect(suite.arguments)]
        metafunc.parametrize(("suite", "test"), found, ids=[test.removeprefix(f"{ATTACKS}/") for _, test in found])


def test_inside_the_container(suite: str, test: str) -> None:
    row = run_suite(suite).tell(test)
    assert row.outcome == "passed", row.told


def test_what_ci_leaves_to_the_containers_is_run_there() -> None:
    inside = {test for suite in SUITES.values() for test in collect(suite.arguments)}
    assert set(collect(["-m", "contained", ATTACKS])) <= inside


@pytest.mark.parametrize("suite", SUITES)
def test_nothing_else_was_run_and_all_of_it_was_the_images_own(suite: str) -> None:
    run = run_suite(suite)
    assert run.foreign == []
    assert set(run.rows) == set(collect(SUITES[suite].arguments))
