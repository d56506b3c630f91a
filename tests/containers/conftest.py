"""Stacks of containers for the tests that leave them as they are."""

from collections.abc import Iterator

import pytest

from attacks.conftest import assert_stopped
from containers.composing import MONITORING, TFSERVING, ComposedStack, left_behind, load_images
from containers.recording import Measured
from containers.seen import Published
from stack.running import Target

__all__ = ["assert_stopped"]  # a fixture of the attacks, which are the same here


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The ids of the images under test, by name."""
    return load_images()


@pytest.fixture(scope="session")
def composed() -> Iterator[ComposedStack]:
    """Run the whole of compose.yaml, with all sample models, those of TensorFlow, Prometheus and Alertmanager."""
    with ComposedStack(profiles=(TFSERVING, MONITORING)) as stack:
        yield stack
    assert left_behind(stack.project) == []


@pytest.fixture
def target(composed: ComposedStack) -> Target:
    """The published port, as a client sees it."""
    return composed.target


@pytest.fixture
def running(composed: ComposedStack) -> Published:
    """The stack of containers, looked at as the attack tests look at processes."""
    return Published(composed)


@pytest.fixture
def measured() -> Measured:
    """Where it is written down what a fault cost."""
    return Measured()
