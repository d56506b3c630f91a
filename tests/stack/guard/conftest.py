"""One guard in front of the one stand-in that all tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.contract import load_contract
from stack.guard.served import ServedRest
from standins.saved_models.catalogue import SAMPLES
from standins.starting import StandIn


@pytest.fixture(scope="session")
def rest(saved_models: Path, stand_in: StandIn) -> Iterator[ServedRest]:
    """The guard's REST for every benign SavedModel; requests leave nothing behind in it."""
    contracts = [load_contract(saved_models / sample.name / "contract.yaml") for sample in SAMPLES]
    with tempfile.TemporaryDirectory(prefix="garrison-") as directory:
        served = ServedRest(contracts, stand_in.socket, Path(directory))
        try:
            yield served
        finally:
            served.stop()
