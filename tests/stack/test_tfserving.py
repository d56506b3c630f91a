"""`garrison serve` with SavedModels, from packing to a client's answer, in front of TensorFlow Serving's stand-in."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from garrison.cli import main
from stack.running import RunningStack, make_test_key
from standins.saved_models.catalogue import SAMPLES, Ask, Sample
from standins.saved_models.requests import ask_over, grpc_request, path_of, read_outputs, rest_body
from standins.starting import BINARY, StandIn

SPOKEN = ""  # what SavedModels need is spoken without being listed
ASKED = [pytest.param(sample, ask, id=f"{sample.name}-{i}") for sample in SAMPLES for i, ask in enumerate(sample.asks)]
JSON = {"content-type": "application/json"}
WAIT_S = 30


def pack(sample: Sample, saved_models: Path, target: Path) -> None:
    source = saved_models / sample.name
    arguments = ("--saved-model", source / "1", "--contract", source / "contract.yaml", "--export-path", target)
    assert main(["pack", *map(str, arguments), "--sign-key", str(make_test_key()[0])]) == 0


@pytest.fixture(scope="module")
def packed(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All benign SavedModels, packed and signed; not to be written to."""
    target = tmp_path_factory.mktemp("packed")
    for sample in SAMPLES:
        pack(sample, saved_models, target)
    return target


@pytest.fixture(scope="module")
def one(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of them alone."""
    target = tmp_path_factory.mktemp("one")
    pack(SAMPLES[0], saved_models, target)
    return target


def make_stack(packed: Path, settings: str = SPOKEN) -> RunningStack:
    stack = RunningStack(packed, served=[sample.name for sample in SAMPLES], settings=settings)
    stack.options += ["--tensorflow-model-server", BINARY]
    return stack


@pytest.fixture(scope="module")
def serving(packed: Path) -> Iterator[RunningStack]:
    """Everything with all models, for tests that leave it as it is."""
    with make_stack(packed) as stack:
        yield stack


@pytest.fixture(scope="module")
def channel(serving: RunningStack) -> Iterator[Any]:
    """A channel of gRPC, over TLS, to its gateway."""
    with open_channel(serving) as channel:
        yield channel


def open_channel(stack: RunningStack) -> Any:
    certificate = (stack.state / "certificates" / "server.pem").read_bytes()
    return grpc.secure_channel(f"localhost:{stack.target.port}", grpc.ssl_channel_credentials(certificate))


def key_of(stack: RunningStack, client: str = "demo") -> list[tuple[str, str]]:
    return [("x-api-key", stack.target.keys[client])]


@pytest.mark.parametrize(("sample", "ask"), ASKED)
def test_a_model_of_each_kind_is_admitted_and_answers_by_grpc_as_it_does_alone(
    serving: RunningStack, channel: Any, stand_in: StandIn, sample: Sample, ask: Ask
) -> None:
    request = grpc_request(sample.name, ask)
    answer = ask_over(channel, request, metadata=key_of(serving))
    assert read(answer) == round_as_promised(sample, ask, read(ask_over(stand_in.connect(), request)))


def read(answer: Any) -> dict[str, Any]:
    """Return an answer as plain values by output."""
    kind = type(answer).__name__
    if kind == "ClassificationResponse":
        rows = [row.classes for row in answer.result.classifications]
        return {"classes": [[c.label for c in row] for row in rows], "scores": [[c.score for c in row] for row in rows]}
    if kind == "RegressionResponse":
        return {"outputs": [one.value for one in answer.result.regressions]}
    return {name: values.tolist() for name, values in read_outputs(answer).items()}


def round_as_promised(sample: Sample, ask: Ask, found: dict[str, Any]) -> dict[str, Any]:
    """Round what the server gave alone to the contract's decimals, in 32 bits as it was."""
    outputs = sample.signatures[ask.signature]["outputs"]
    decimals = {name: outputs.get(name, {}).get("decimals") for name in found}
    return {
        name: values if decimals[name] is None else np.round(np.array(values, "f4"), decimals[name]).tolist()
        for name, values in found.items()
    }


@pytest.mark.parametrize(("sample", "ask"), ASKED)
def test_a_model_of_each_kind_answers_by_rest(serving: RunningStack, sample: Sample, ask: Ask) -> None:
    reply = serving.target.send("POST", path_of(sample.name, ask), rest_body(ask), JSON)
    assert (reply.status, list(reply.json)) == (200, ["outputs" if ask.method == "predict" else "results"])


def test_nothing_but_a_known_client_gets_through(serving: RunningStack, channel: Any) -> None:
    body, path = rest_body(SAMPLES[0].asks[0]), path_of(SAMPLES[0].name, SAMPLES[0].asks[0])
    assert serving.target.send("POST", path, body, JSON, key=None).status == 401
    assert serving.target.send("POST", path, body, JSON, key="neighbour").status == 403
    request = grpc_request(SAMPLES[0].name, SAMPLES[0].asks[0])
    for metadata, code in ((None, "UNAUTHENTICATED"), (key_of(serving, "neighbour"), "NOT_FOUND")):
        with pytest.raises(grpc.RpcError) as refusal:
            ask_over(channel, request, metadata=metadata)
        assert refusal.value.code().name == code


@pytest.mark.parametrize("who", ["TensorFlow Serving", "guard 0"])
def test_what_ends_is_started_again(one: Path, who: str) -> None:
    with make_stack(one) as stack:
        path, body = path_of(SAMPLES[0].name, SAMPLES[0].asks[0]), rest_body(SAMPLES[0].asks[0])
        assert stack.target.send("POST", path, body, JSON).status == 200
        wait_for(stack, "ready")  # what ends before that will end again, and is not started anew
        os.kill(find_child(stack, who), signal.SIGKILL)
        wait_for(stack, "restarting")
        deadline = time.monotonic() + WAIT_S
        while stack.target.send("POST", path, body, JSON).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def find_child(stack: RunningStack, who: str) -> int:
    """Return the process id of a part of the stack, by what it was started with."""
    told = b"garrison.guard" if who.startswith("guard") else b"--grpc_socket_path"
    children = Path(f"/proc/{stack.pid}/task/{stack.pid}/children").read_text().split()
    (found,) = [int(pid) for pid in children if told in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def wait_for(stack: RunningStack, event: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not any(line["event"] == event for line in stack.events()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def refuse(stack: RunningStack) -> str:
    """Start what must not start; return what was said."""
    try:
        stack.launch()
        status, said = stack.wait()
    finally:
        stack.__exit__()
    assert status == 78
    return said


def test_without_a_binary_it_says_what_is_needed(one: Path) -> None:
    stack = RunningStack(one, settings=SPOKEN)
    said = refuse(stack)
    assert "needs TensorFlow Serving" in said and "--tensorflow-model-server" in said and "docker compose" in said


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            "protocols: [torchserve]\n",
            "none that is there leads to half_plus_two; add tfserving-rest and tfserving-grpc",
        ),
        ("protocols: [tfserving-rest, torchserve]\n", "torchserve: there is no model for it"),
    ],
    ids=["no protocol for it", "a protocol without a model"],
)
def test_protocols_and_models_have_to_go_together(one: Path, settings: str, told: str) -> None:
    assert told in refuse(make_stack(one, settings))


def test_no_flag_of_the_server_can_be_changed_unnoticed(one: Path) -> None:
    stack = make_stack(one)
    flags = stack.config / "tfserving.flags"
    flags.write_text(flags.read_text().replace("rest_api_port=0", "rest_api_port=8501") + "monitoring_config_file=/x\n")
    said = refuse(stack)
    assert "rest_api_port: locked; write rest_api_port=0" in said
    assert "monitoring_config_file: unknown flag" in said


def test_what_was_changed_in_the_store_is_not_served(one: Path) -> None:
    stack = make_stack(one)
    try:
        stack.start()
        stack.stop()
        (version,) = (stack.state / "store" / SAMPLES[0].name).iterdir()
        file = version / "saved_model.pb"
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
        stack.models = None
        stack.launch()
        status, said = stack.wait()
    finally:
        stack.__exit__()
    assert (status, "tampered" in said) == (1, True)


def test_it_has_no_address_of_a_network_and_no_file_of_ours(serving: RunningStack) -> None:
    command = Path(f"/proc/{find_child(serving, 'TensorFlow Serving')}/cmdline").read_bytes().decode().split("\0")
    assert {"--port=0", "--rest_api_port=0", "--enable_profiler=false"} <= {*command}
    config = (serving.run_directory / "tensorflow" / "models.config").read_text()
    assert str(serving.state) not in config + json.dumps(command)
