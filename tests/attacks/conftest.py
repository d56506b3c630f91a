"""Fixtures of the attack tests: the servers without gates, and what every refusal has to look like."""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attacks.catalogue import Attack
from attacks.stock import StockServer, run_stock
from garrison.gateway.security_headers import SECURITY_HEADERS
from stack.running import Answer

# A path, the name of a library or server, a type, an address: what an attacker would learn from.
INSIDE = re.compile(
    r"(?:^|[\s\"'(])/\w|\.py\b|torch|pillow|PIL\b|python|java|netty|envoy|tensor|numpy|uint8|traceback|exception|\b0x[0-9a-f]{4}|127\.0",
    re.IGNORECASE,
)
OTHERS = {"content-type", "content-length", "date", "x-request-id", "x-garrison-reason", "retry-after", "connection"}
HEADERS = OTHERS | SECURITY_HEADERS.keys()


@pytest.fixture(scope="session")
def stock() -> Iterator[StockServer]:
    """TorchServe without Garrison, serving the same model."""
    with (
        tempfile.TemporaryDirectory(prefix="stock-", ignore_cleanup_errors=True) as name,
        run_stock(Path(name)) as server,
    ):
        yield server


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="weak-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def assert_stopped() -> Callable[[Attack, Answer], None]:
    """Check an answer against the catalogue: status, reason, exactly two fields, and nothing about the inside."""

    def check(attack: Attack, answer: Answer) -> None:
        assert (answer.status, answer.reason) == (attack.status, attack.reason)
        assert set(answer.headers) <= HEADERS
        assert not INSIDE.search(answer.body.decode())
        if attack.status != 200:
            assert set(answer.json) == {"reason", "message"}
            assert answer.json["message"]
            assert answer.headers["x-garrison-reason"] == attack.reason
            assert answer.headers["content-type"] == "application/json"

    return check
