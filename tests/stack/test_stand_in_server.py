"""The stand-in starts, loads, batches and hangs as upstream's server does: what Garrison has to bear, or to prevent."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from garrison.tensorflow.messages import messages
from standins.reloading import reload
from standins.saved_models.catalogue import BY_NAME, Ask
from standins.saved_models.requests import ask_over, grpc_request, read_outputs
from standins.starting import BINARY, StandIn, run_stand_in

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
HALF, LOOPS, WHOLE = BY_NAME["half_plus_two"], BY_NAME["loops"], BY_NAME["whole"]
AVAILABLE, END = 30, 50  # get_model_status.proto


@pytest.fixture(scope="module")
def batching(saved_models: Path) -> Iterator[StandIn]:
    """One with batches of at most four rows, and with a flag that nobody knows."""
    with tempfile.TemporaryDirectory(prefix="garrison-") as name:
        parameters = Path(name) / "batching.config"
        parameters.write_text("max_batch_size { value: 4 } allowed_batch_sizes: 4 num_batch_threads { value: 1 }")
        flags = ("--enable_batching", f"--batching_parameters_file={parameters}", "--rest_api_prot=0")
        models = {sample.name: saved_models / sample.name for sample in (HALF, LOOPS, WHOLE)}
        with run_stand_in(Path(name), models, *flags, "--enable_profiler=false") as running:
            yield running


@pytest.fixture
def rows(batching: StandIn) -> Callable[..., Any]:
    channel = batching.connect()

    def ask(count: int, timeout_s: float = 10) -> Any:
        request = grpc_request("half_plus_two", Ask(inputs={"x": np.zeros(count, "f4")}))
        return read_outputs(ask_over(channel, request, timeout_s))["y"]

    return ask


def test_a_flag_that_nobody_knows_is_printed_and_it_starts(batching: StandIn) -> None:
    assert "unknown argument: --rest_api_prot=0" in batching.log.read_text()


def test_a_batch_of_no_rows_hangs_until_the_client_gives_up(rows: Callable[..., Any]) -> None:
    assert rows(1).tolist() == [2]
    with pytest.raises(grpc.RpcError) as caught:
        rows(0, timeout_s=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_more_rows_than_a_batch_are_refused(rows: Callable[..., Any]) -> None:
    assert rows(4).tolist() == [2] * 4
    with pytest.raises(grpc.RpcError, match="Task size 5 is larger than maximum input batch size 4"):
        rows(5)


def test_what_has_no_rows_cannot_be_batched(batching: StandIn) -> None:
    with pytest.raises(grpc.RpcError, match="input tensors must have at least one dimension"):
        ask_over(batching.connect(), grpc_request("whole", WHOLE.asks[0]))


def test_a_deadline_ends_the_model_and_not_only_the_waiting(batching: StandIn) -> None:
    channel = batching.connect()
    with pytest.raises(grpc.RpcError) as caught:
        ask_over(channel, grpc_request("loops", Ask(inputs={"n": np.array([2**40], "i8")})), 0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert settles(batching)


def settles(running: StandIn) -> bool:
    """Wait until it computes nothing any more."""
    for _ in range(100):
        before = cpu_ticks(running)
        time.sleep(0.1)
        if cpu_ticks(running) - before <= 2:
            return True
    return False


def cpu_ticks(running: StandIn) -> int:
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_whoever_reaches_it_loads_what_he_likes(batching: StandIn, saved_models: Path) -> None:
    channel = batching.connect()
    reload(channel, {"mine": saved_models / "half_plus_two"})
    answer = ask_over(channel, grpc_request("mine", HALF.asks[0]))
    assert read_outputs(answer)["y"].tolist() == [2.5, 3, 4.5]
    assert [state.state for state in status(channel, "half_plus_two").model_version_status] == [END]
    reload(channel, {sample.name: saved_models / sample.name for sample in (HALF, LOOPS, WHOLE)})
    assert [state.state for state in status(channel, "half_plus_two").model_version_status] == [AVAILABLE]


def status(channel: Any, model: str) -> Any:
    request = messages.GetModelStatusRequest(model_spec=messages.ModelSpec(name=model))
    answer = channel.unary_unary(STATUS)(request.SerializeToString(), timeout=10)
    return messages.GetModelStatusResponse.FromString(answer)


REFUSED = {
    "no port and no socket": (("--port=0", "--model_base_path=/nowhere"), "server_options.grpc_port is not set."),
    "no models": (("--port=0", "--grpc_socket_path=/nowhere/s"), "model_config_file are empty!"),
    "batching parameters without batching": (
        ("--port=1", "--model_base_path=/nowhere", "--batching_parameters_file=/nowhere/b"),
        "batching_parameters_file is set without setting server_options.enable_batching to true.",
    ),
    "a port that is no number": (("--port=many",), "usage: tensorflow_model_server"),
    "a value behind a space": (("--port", "0", "--help"), "model_config_file are empty!"),
    "help": (("--help",), "This is a stand-in for TensorFlow Serving's tensorflow_model_server"),
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.values(), ids=REFUSED)
def test_what_upstream_refuses_to_start_with(flags: tuple[str, ...], message: str) -> None:
    ended = subprocess.run([BINARY, *flags], capture_output=True, text=True, timeout=60, check=False, env={})
    assert ended.returncode == 255
    assert message in ended.stdout
