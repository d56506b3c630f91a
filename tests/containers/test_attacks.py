"""The attacks on a server that is asked: the very tests of tests/attacks, against the published port.

Each test there that needs no more than a stack that runs is one here. Those that show what happens without Garrison,
or without one gate of it, are not: they need a server put together for them, and no container is one.
"""

import inspect
import shutil
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from attacks import (
    test_disguised_files,
    test_flooding,
    test_image_bombs,
    test_management_paths,
    test_smuggled_headers,
    test_stolen_access,
)
from attacks.catalogue import list_attacks
from containers.composing import ComposedStack, left_behind
from containers.seen import Published
from stack.running import MODELS

THREATS = {
    module.__name__.rpartition("test_")[2]: module
    for module in (
        test_disguised_files,
        test_flooding,
        test_image_bombs,
        test_management_paths,
        test_smuggled_headers,
        test_stolen_access,
    )
}
STACKS = {"target", "running", "flooded", "patient"}  # the fixtures that stand for the containers here
WITHOUT = {"stock", "directory"}  # and those for what is put together without a gate
UNGUARDED = ("test_without_", "test_in_stock_")


@pytest.fixture
def flooded(composed: ComposedStack) -> Published:
    """The stack, with what is in its log from now on."""
    return Published(composed)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A stack of its own that waits five seconds for a batch to fill."""
    models = tmp_path_factory.mktemp("patient") / "models"
    shutil.copytree(MODELS / "digits", models / "digits")
    models.chmod(0o755)
    contract = models / "digits" / "contract.yaml"
    text = contract.read_text()
    delay_ms = test_image_bombs.BATCH_DELAY_S * 1000
    assert "max_delay_ms: 1 " in text
    contract.write_text(text.replace("max_delay_ms: 1 ", f"max_delay_ms: {delay_ms} "))
    with ComposedStack({"unsafe-development": {"volumes": [f"{models}:/models:ro"]}}) as stack:
        yield Published(stack)
    assert left_behind(stack.project) == []


def list_tests(module: ModuleType) -> Iterator[tuple[str, Callable[..., None]]]:
    """Return the tests of an attack that need nothing but a running stack."""
    for name, test in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(test) and not name.startswith(UNGUARDED):
            fixtures = set(inspect.signature(test).parameters)
            if fixtures & STACKS and not fixtures & WITHOUT:
                yield name.removeprefix("test_"), test


for threat, module in THREATS.items():
    globals().update({f"test_{threat}_{name}": test for name, test in list_tests(module)})


def test_no_attack_of_the_catalogue_is_missing() -> None:
    assert {attack.threat for attack in list_attacks()} == set(THREATS)
    for threat, module in THREATS.items():
        attacks = [attack.name for attack in list_attacks() if attack.threat == threat]
        tried = [
            one.name
            for _, test in list_tests(module)
            for mark in getattr(test, "pytestmark", [])
            if mark.name == "parametrize" and mark.args[0] == "attack"
            for one in mark.args[1]
        ]
        assert set(attacks) <= set(tried), threat
