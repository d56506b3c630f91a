"""The stack runs as whatever user a platform assigns, as long as it is in group 0: OpenShift's way.

It is the production stack: what an operator brings belongs to root, for everybody to read or for group 0. What belongs
to a third user is refused, by intent, so the development keys of one user do not serve another.
"""

from collections.abc import Iterator

import pytest
import yaml

from attacks.catalogue import sample_digit
from containers.composing import left_behind
from containers.test_production import ProductionStack

USER = "1234567:0"
SERVICES = ("admit", "render", "torchserve", "gateway")


@pytest.fixture(scope="module")
def assigned() -> Iterator[ProductionStack]:
    """The production stack, with users that no image knows."""
    stack = ProductionStack()
    users = stack.directory / "users.yaml"
    users.write_text(yaml.safe_dump({"services": {name: {"user": USER} for name in SERVICES}}))
    stack.files.append(users)
    with stack:
        yield stack
    assert left_behind(stack.project) == []


def test_it_predicts(assigned: ProductionStack) -> None:
    answer = assigned.target.send(body=sample_digit(7))
    assert answer.status == 200
    assert next(iter(answer.json)) == "seven"


@pytest.mark.parametrize("service", ["torchserve", "gateway"])
def test_it_is_that_user(assigned: ProductionStack, service: str) -> None:
    assert assigned.python(service, "import os; print(os.getuid(), os.getgid())").split() == USER.split(":")
