"""One guard for all attacks: what they cost it adds up."""

from collections.abc import Iterator

import grpc
import pytest

from attacks.guard.fortress import Fortress, open_fortress
from attacks.guard.messaging import predict
from attacks.guard.test_grpc_abuse import Attack, call
from attacks.guard.test_rest_abuse import http, send

WARM_UP = 200


@pytest.fixture(scope="package")
def standing() -> Iterator[Fortress]:
    """A guard that has answered some requests already."""
    with open_fortress() as fortress:
        honest = Attack("", grpc.StatusCode.OK, "", predict())
        for _ in range(WARM_UP):
            assert call(fortress, honest)[0] is honest.code
            assert send(fortress, http())[0] == 200
        fortress.settle()
        yield fortress


@pytest.fixture
def fortress(standing: Fortress) -> Fortress:
    """The guard, with a server behind it that has not been asked anything yet."""
    standing.backend.called.clear()
    standing.backend.gate = None
    return standing
