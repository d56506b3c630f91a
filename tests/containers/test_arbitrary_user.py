"""The stack runs as whatever user a platform assigns, as long as it is in group 0: OpenShift's way.

Whose signatures count is a directory of root's there, as it is where a platform mounts it: one that belongs to a third
user is refused, by intent.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.catalogue import sample_digit
from containers.composing import ComposedStack, left_behind, own

USER = "1234567:0"
SERVICES = ("admit", "render", "torchserve", "gateway")


@pytest.fixture(scope="module")
def assigned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedStack]:
    """The whole of compose.yaml, with users that no image knows."""
    trust = tmp_path_factory.mktemp("trust")
    stack = ComposedStack({name: {"user": USER} for name in SERVICES}, environment={"GARRISON_TRUST": str(trust)})
    try:
        stack.compose("up", "--no-build", "unsafe-development")
        stack.compose("cp", "unsafe-development:/trust/.", trust)
        open_to_all(trust)
        stack.up()
        yield stack
    finally:
        stack.__exit__()
    assert left_behind(stack.project) == []


def open_to_all(directory: Path) -> None:
    """Make a directory this user's, for everybody to read, with all above it that is ours."""
    own(directory)
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)


def test_it_predicts(assigned: ComposedStack) -> None:
    answer = assigned.target.send(body=sample_digit(7))
    assert answer.status == 200
    assert next(iter(answer.json)) == "seven"


@pytest.mark.parametrize("service", ["torchserve", "gateway"])
def test_it_is_that_user(assigned: ComposedStack, service: str) -> None:
    assert assigned.python(service, "import os; print(os.getuid(), os.getgid())").split() == USER.split(":")
