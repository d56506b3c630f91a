"""One gateway with the configuration as it ships, for the tests that leave it as it is."""

from collections.abc import Iterator

import pytest

from stack.gateways import CONFIG, Gateway, Place, Seen, open_gateway, open_place
from stack.guards import RecordingGuard

SPOKEN = """
protocols: [torchserve, kserve-v1, kserve-v2, tfserving-grpc, torchserve-grpc]
cors: {origins: ["https://app.example", "https://lab.example:8443"]}
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Keys, certificate and recording servers."""
    with open_place(tmp_path_factory.mktemp("gw")) as place:
        yield place


@pytest.fixture(scope="session")
def running(place: Place) -> Iterator[Gateway]:
    """One gateway with the configuration as it ships."""
    with open_gateway(place) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway, place: Place) -> Gateway:
    """The shared gateway, with nothing recorded yet; another test may have had the server say no a moment ago."""
    place.reset()
    running.wait_until_ready()
    return running


@pytest.fixture
def seen(place: Place) -> list[Seen]:
    """What the model server has seen in this test."""
    return place.inference.seen


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingGuard]:
    """A recording guard."""
    guard = RecordingGuard(tmp_path_factory.mktemp("gd"))
    yield guard
    guard.stop()


@pytest.fixture(scope="session")
def wide_place(tmp_path_factory: pytest.TempPathFactory, guard: RecordingGuard) -> Iterator[Place]:
    """A place where every protocol is spoken that can be beside the others, and two origins are named."""
    settings = (CONFIG / "gateway.yaml").read_text() + SPOKEN
    known = {"saved_models": ("sums",), "guards": (guard.sockets,)}
    with open_place(tmp_path_factory.mktemp("gw"), settings=settings, **known) as place:
        yield place


@pytest.fixture(scope="session")
def wide_running(wide_place: Place) -> Iterator[Gateway]:
    """The gateway of that place."""
    with open_gateway(wide_place) as gateway:
        yield gateway


@pytest.fixture
def wide(wide_running: Gateway, wide_place: Place, guard: RecordingGuard) -> Gateway:
    """The same, with nothing recorded yet."""
    wide_place.reset()
    guard.reset()
    return wide_running
