"""Every request of the SavedModels' catalogue, by REST: the same numbers as the server itself gives by gRPC."""

import json
from typing import Any

import numpy as np
import pytest

from stack.guard.served import Reply, ServedRest
from standins.saved_models.catalogue import BY_NAME, CLASSIFY, PREDICT, SAMPLES, Ask
from standins.saved_models.requests import ask_over, grpc_request, path_of, read_outputs, rest_body, row_body
from standins.starting import StandIn

ASKS = [pytest.param(s.name, ask, id=f"{s.name}-{ask.signature}") for s in SAMPLES for ask in s.asks]
IN_ROWS = [
    pytest.param(s.name, ask, id=f"{s.name}-{ask.signature}")
    for s in SAMPLES
    for ask in s.asks
    if ask.method == PREDICT and s.signatures[ask.signature].get("batched", True)
]
BINARY = frozenset({"thumbnail_bytes", "digest_bytes"})


@pytest.fixture(scope="module")
def channel(stand_in: StandIn) -> Any:
    return stand_in.connect()


def ask_itself(channel: Any, name: str, ask: Ask) -> Any:
    return ask_over(channel, grpc_request(name, ask))


def read_answer(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def expect(name: str, ask: Ask, outputs: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON has to say of the server's own outputs: rounded as the contract says, bytes in base64."""
    promised = BY_NAME[name].signatures[ask.signature]["outputs"]
    return {key: _plain(array, key, promised[key].get("decimals")) for key, array in outputs.items()}


def _plain(array: Any, name: str, decimals: int | None) -> Any:
    if array.dtype == object:
        import base64

        write = (lambda b: {"b64": base64.b64encode(b).decode()}) if name in BINARY else (lambda b: b.decode())
        return np.vectorize(write, otypes=[object])(array).tolist()
    return (array if decimals is None else np.round(array, decimals)).tolist()


def assert_like(found: Any, expected: Any) -> None:
    """Compare nested values; numbers as far as 32 bits tell them apart."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_like(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_like(one, other)
    elif isinstance(expected, float):
        assert isinstance(found, float)
        assert found == pytest.approx(expected, rel=1e-3 if abs(expected) < 1e-3 else 1e-6)
    else:
        assert type(found) is type(expected)
        assert found == expected


@pytest.mark.parametrize(("name", "ask"), ASKS)
def test_columns_and_examples(name: str, ask: Ask, rest: ServedRest, channel: Any) -> None:
    found = read_answer(rest.ask("POST", path_of(name, ask), rest_body(ask)))
    itself = ask_itself(channel, name, ask)
    if ask.method == PREDICT:
        expected = expect(name, ask, read_outputs(itself))
        assert_like(found, {"outputs": expected if len(expected) > 1 else next(iter(expected.values()))})
    elif ask.method == CLASSIFY:
        listed = [[[one.label, round(one.score, 4)] for one in row.classes] for row in itself.result.classifications]
        assert_like(found, {"results": listed})
    else:
        assert_like(found, {"results": [round(one.value, 4) for one in itself.result.regressions]})


@pytest.mark.parametrize(("name", "ask"), IN_ROWS)
def test_rows(name: str, ask: Ask, rest: ServedRest, channel: Any) -> None:
    found = read_answer(rest.ask("POST", path_of(name, ask), row_body(ask)))
    columns = expect(name, ask, read_outputs(ask_itself(channel, name, ask)))
    listed = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert_like(found, {"predictions": listed if len(columns) > 1 else [next(iter(row.values())) for row in listed]})
