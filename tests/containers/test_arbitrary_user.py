"""The stack runs as whatever user a platform assigns, as long as it is in group 0: OpenShift's way."""

from collections.abc import Iterator

import pytest

from attacks.catalogue import sample_digit
from containers.composing import ComposedStack, left_behind

USER = "1234567:0"
SERVICES = ("admit", "render", "torchserve", "gateway")


@pytest.fixture(scope="module")
def assigned() -> Iterator[ComposedStack]:
    """The whole of compose.yaml, with users that no image knows."""
    with ComposedStack({name: {"user": USER} for name in SERVICES}) as stack:
        yield stack
    assert left_behind(stack.project) == []


def test_it_predicts(assigned: ComposedStack) -> None:
    answer = assigned.target.send(body=sample_digit(7))
    assert answer.status == 200
    assert next(iter(answer.json)) == "seven"


@pytest.mark.parametrize("service", ["torchserve", "gateway"])
def test_it_is_that_user(assigned: ComposedStack, service: str) -> None:
    assert assigned.python(service, "import os; print(os.getuid(), os.getgid())").split() == USER.split(":")
