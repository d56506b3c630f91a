"""The whole way: curl, Envoy, a process of the guard, the stand-in with its SavedModels.

The commands are those of TensorFlow Serving's documentation (g3doc/api_rest.md), but for the address and the key.
"""

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.contract import load_contract
from garrison.gateway.upstreams import GuardSockets
from stack.gateways import CONFIG, WAIT_S, Gateway, Place, open_gateway, open_place
from stack.guard.served import read_exactly
from standins.starting import StandIn

MODELS = ("half_plus_two", "census", "pictures")
CLIENTS = f"clients:\n  demo: {{models: [{', '.join(MODELS)}], requests_per_second: 1000, burst: 1000}}\n"
HALF, CENSUS = "/v1/models/half_plus_two", "/v1/models/census"
ADA = '{"age": 42, "weight": [0.5, 1.5], "name": "Ada"}'
BOB = '{"age": 7, "weight": [-1.0, 2.0], "name": "Bob"}'
AVAILABLE = '{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}'
COMMANDS = {
    "status": ([HALF], f'{{"model_version_status": [{AVAILABLE}]}}'),
    "predict": (["-d", '{"instances": [1.0,2.0,5.0]}', "-X", "POST", f"{HALF}:predict"], '{"predictions": [2.5, 3.0, 4.5]}'),
    "regress": (
        ["-d", f'{{"signature_name": "regress", "examples": [{ADA}, {BOB}]}}', "-X", "POST", f"{CENSUS}:regress"],
        '{"results": [2.42, 1.07]}',
    ),
    "a-version": (["-d", '{"instances": [1.0]}', f"{HALF}/versions/1:predict"], '{"predictions": [2.5]}'),
    "a-label": (["-d", '{"inputs": [1.0]}', f"{HALF}/labels/stable:predict"], '{"outputs": [2.5]}'),
    "json-by-its-name": (
        ["-H", "content-type: application/json", "-d", '{"inputs": [1.0]}', f"{HALF}:predict"], '{"outputs": [2.5]}',
    ),
    "metadata": ([f"{HALF}/versions/1/metadata"], ""),
}  # fmt: skip


@contextlib.contextmanager
def run_guard(directory: Path, contracts: Path, backend: Path) -> Iterator[GuardSockets]:
    """Start a process of the guard as its launcher does."""
    directory.mkdir()
    options = ["--directory", str(directory), "--contracts", str(contracts), "--backend", str(backend)]
    command = [sys.executable, "-I", "-m", "garrison.guard", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield GuardSockets.in_directory(directory)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def place(saved_models: Path, stand_in: StandIn) -> Iterator[Place]:
    settings = (CONFIG / "gateway.yaml").read_text() + "\nprotocols: [tfserving-rest]\n"
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        directory = Path(name)
        (directory / "contracts").mkdir()
        for model in MODELS:
            text = (saved_models / model / "contract.yaml").read_text()
            (directory / "contracts" / f"{model}.yaml").write_text(text)
        contracts = tuple(load_contract(directory / "contracts" / f"{model}.yaml") for model in MODELS)
        with run_guard(directory / "guard", directory / "contracts", stand_in.socket) as sockets:
            changes = {"settings": settings, "clients": CLIENTS, "models": (), "contracts": contracts}
            with open_place(directory, guards=(sockets,), **changes) as place:
                yield place


@pytest.fixture(scope="module")
def gateway(place: Place) -> Iterator[Gateway]:
    with open_gateway(place) as gateway:
        yield gateway


def curl(gateway: Gateway, place: Place, *arguments: str) -> str:
    """Run curl; the last argument is the path."""
    given = ["curl", "--silent", "--show-error", "--max-time", str(WAIT_S), "--cacert", str(gateway.ca_path)]
    *options, path = arguments
    command = [*given, "-H", f"x-api-key: {place.key('demo', MODELS)}", *options]
    address = f"https://localhost:{gateway.port}{path}"
    return subprocess.run([*command, address], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_documented_command_works(name: str, gateway: Gateway, place: Place) -> None:
    arguments, answer = COMMANDS[name]
    found = read_exactly(curl(gateway, place, *arguments))
    assert found == read_exactly(answer) if answer else found["model_spec"]["name"] == "half_plus_two"


def test_a_refusal_is_the_guards_with_its_reason(gateway: Gateway, place: Place) -> None:
    told = curl(gateway, place, "-i", "-d", '{"instances": ["x"]}', f"{HALF}:predict")
    assert told.startswith("HTTP/2 400")
    assert "x-garrison-reason: wrong_dtype" in told
    assert json.loads(told.splitlines()[-1]) == {"error": "The values are not of the type that is accepted."}


def test_without_a_key_nothing_is_told(gateway: Gateway) -> None:
    assert gateway.send("POST", f"{HALF}:predict", {}, b'{"instances": [1]}').status == 401


def test_who_says_to_be_somebody_else_is_not(gateway: Gateway, place: Place) -> None:
    lines = {"x-api-key": place.key("demo", MODELS), "x-garrison-client": "Nobody!", "x-garrison-scopes": "?"}
    reply = gateway.send("POST", f"{HALF}:predict", lines, b'{"instances": [1]}')
    assert (reply.status, json.loads(reply.body)) == (200, {"predictions": [2.5]})


def test_a_refusal_that_needs_no_body_is_not_lost_because_of_it(gateway: Gateway, place: Place) -> None:
    """A guard that closes a connection on which the gateway still writes would be no answer at all."""
    lines = {"x-api-key": place.key("demo", MODELS)}
    for _ in range(20):
        reply = gateway.send("POST", "/v1/models/pictures/labels/nosuch:predict", lines, b"x" * 60_000)
        assert (reply.status, reply.headers["x-garrison-reason"]) == (404, "not_found")


def test_a_connection_to_the_guard_goes_on_after_a_refusal(gateway: Gateway, place: Place) -> None:
    lines = {"x-api-key": place.key("demo", MODELS)}
    with contextlib.closing(http.client.HTTPSConnection("localhost", gateway.port, context=gateway.tls)) as connection:
        for body, status in ((b'{"instances": [1]}', 200), (b"{", 400), (b'{"instances": [1]}', 200)) * 5:
            connection.request("POST", f"{HALF}:predict", body, lines)
            response = connection.getresponse()
            response.read()
            assert response.status == status
