"""What TorchServe's server is made anew from: its published jar, and netty's files."""

from pathlib import Path

import pytest

from garrison.torchserve.renewal.jar import JAR
from garrison.torchserve.renewal.netty import collect_netty
from garrison.torchserve.renewal.server import FRONTEND
from garrison.torchserve.server import find_server_home


@pytest.fixture(scope="session")
def stock() -> bytes:
    """TorchServe's own jar."""
    return (find_server_home() / FRONTEND / JAR).read_bytes()


@pytest.fixture(scope="session")
def jars() -> dict[str, bytes]:
    """Netty's files, as `scripts/setup` kept them; asked for again where it did not."""
    return collect_netty(None, lambda text: None, lambda done, total: None)


@pytest.fixture
def home(tmp_path, stock) -> Path:
    """Where packages lie, with TorchServe's jar and nothing else of it."""
    (tmp_path / FRONTEND).mkdir(parents=True)
    (tmp_path / FRONTEND / JAR).write_bytes(stock)
    return tmp_path
