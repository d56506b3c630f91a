"""One stack of containers for the tests that leave it as it is."""

from collections.abc import Iterator

import pytest

from containers.composing import ComposedStack, left_behind, load_images
from stack.running import Target


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The ids of the images under test, by name."""
    return load_images()


@pytest.fixture(scope="session")
def composed() -> Iterator[ComposedStack]:
    """Run the whole of compose.yaml, with all sample models."""
    with ComposedStack() as stack:
        yield stack
    assert left_behind(stack.project) == []


@pytest.fixture
def target(composed: ComposedStack) -> Target:
    """The published port, as a client sees it."""
    return composed.target
