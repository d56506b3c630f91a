"""One gateway with the configuration as it ships, for the tests that leave it as it is."""

from collections.abc import Iterator

import pytest

from stack.gateways import Gateway, Place, Seen, open_gateway, open_place


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
