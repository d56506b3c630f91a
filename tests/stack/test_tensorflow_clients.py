"""Clients of TensorFlow Serving work as they are, but for the address, TLS and the key: upstream's stub, and curl."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from campaigns.tfserving import compare, find_misses
from stack.running import MODELS
from stack.saved_models import SAMPLE, TensorFlowStack
from standins.saved_models.built import PYTHON
from standins.saved_models.catalogue import BY_NAME
from standins.saved_models.requests import ask_over, grpc_request, read_outputs

FOLDER = MODELS / SAMPLE
NAMES = (SAMPLE, "half_plus_two", "census", "words")
CAMPAIGN_S = 3.0
# github.com/tensorflow/serving: docs/docker.md and docs/api_rest.md show these requests of half_plus_two.
DOCUMENTED = {
    "rows": ("/v1/models/half_plus_two:predict", '{"instances": [1.0, 2.0, 5.0]}', {"predictions": [2.5, 3.0, 4.5]}),
    "columns": ("/v1/models/half_plus_two:predict", '{"inputs": [1.0, 2.0, 5.0]}', {"outputs": [2.5, 3.0, 4.5]}),
    "named rows": (
        "/v1/models/half_plus_two/versions/1:predict",
        '{"instances": [{"x": 1.0}]}',
        {"predictions": [2.5]},
    ),
    "a label": ("/v1/models/half_plus_two/labels/stable:predict", '{"instances": [1.0]}', {"predictions": [2.5]}),
    "status": (
        "/v1/models/half_plus_two",
        "",
        {
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        },
    ),
}


@pytest.fixture(scope="module")
def stack() -> Iterator[TensorFlowStack]:
    with TensorFlowStack(NAMES) as running:
        yield running


def run_client(stack: TensorFlowStack, name: str, *options: object) -> "subprocess.CompletedProcess[str]":
    places = ["--address", f"localhost:{stack.target.port}", "--key-file", stack.write_key(), *options]
    command = [PYTHON, FOLDER / name, *places, *sorted(FOLDER.glob("samples/[0-4].*"))]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)


def curl(stack: TensorFlowStack, path: str, body: str) -> Any:
    given = ["-d", body] if body else []
    key = f"x-api-key: {stack.target.keys['demo']}"
    url = f"https://localhost:{stack.target.port}{path}"
    command = ["curl", "-sS", "--cacert", str(stack.target.authority), "-H", key, *given, url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(ended.stdout)


@pytest.mark.parametrize(("path", "body", "wanted"), DOCUMENTED.values(), ids=DOCUMENTED)
def test_curl_as_upstream_documents_it(path: str, body: str, wanted: Any, stack: TensorFlowStack) -> None:
    assert curl(stack, path, body) == wanted


def test_curl_with_the_samples_own_request(stack: TensorFlowStack) -> None:
    command = next(
        line for line in (FOLDER / "README.md").read_text().splitlines() if "207.json" in line and "-d" in line
    )
    assert f"/v1/models/{SAMPLE}:predict" in command
    answer = curl(stack, f"/v1/models/{SAMPLE}:predict", (FOLDER / "samples/207.json").read_text())
    assert [row["digit"] for row in answer["predictions"]] == [2, 0, 7]


def test_tensorflow_serving_apis_own_stub_works_unchanged(stack: TensorFlowStack) -> None:
    ended = run_client(stack, "client_grpc.py", "--certificate", stack.server_certificate)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in lines[:5]] == ["0", "1", "2", "3", "4"]
    assert lines[5].startswith("a blank page: ") and "with a score of" in lines[5]


def test_the_client_of_rest_works(stack: TensorFlowStack, tmp_path: Path) -> None:
    ended = run_client(stack, "client_rest.py", "--certificate", stack.target.authority)
    assert ended.returncode == 0, ended.stderr
    assert [line.rpartition(": ")[2] for line in ended.stdout.splitlines()] == ["0", "1", "2", "3", "4"]
    stranger = tmp_path / "key"
    stranger.write_text(stack.target.keys["neighbour"])
    refused = run_client(stack, "client_rest.py", "--certificate", stack.target.authority, "--key-file", stranger)
    assert refused.returncode == 1
    assert refused.stdout == ""


def test_grpc_takes_the_servers_certificate_and_not_the_development_authoritys(stack: TensorFlowStack) -> None:
    key = [("x-api-key", stack.target.keys["demo"])]
    request = grpc_request("half_plus_two", BY_NAME["half_plus_two"].asks[0])
    for certificate, good in ((stack.server_certificate, True), (stack.target.authority, False)):
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{stack.target.port}", credentials) as channel:
            try:
                answered = ask_over(channel, request, metadata=key) is not None
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                answered = False
        assert answered == good


@pytest.mark.parametrize("model", NAMES[1:])
def test_each_request_of_the_catalogue_is_answered_as_the_server_itself_does(
    model: str, stack: TensorFlowStack
) -> None:
    key = [("x-api-key", stack.target.keys["demo"])]
    credentials = grpc.ssl_channel_credentials(stack.server_certificate.read_bytes())
    with (
        grpc.secure_channel(f"localhost:{stack.target.port}", credentials) as through,
        grpc.insecure_channel(f"unix:{stack.direct}") as direct,
    ):
        for ask in BY_NAME[model].asks:
            request = grpc_request(model, ask)
            answers = [ask_over(through, request, metadata=key), ask_over(direct, request)]
            if ask.method == "predict":
                found, wanted = map(read_outputs, answers)
                for name, array in wanted.items():
                    assert (
                        found[name] == pytest.approx(array, abs=1e-4)
                        if array.dtype.kind == "f"
                        else (found[name].tolist() == array.tolist())
                    )
            else:
                assert len(answers[0].result.ListFields()[0][1]) == len(answers[1].result.ListFields()[0][1]) == 2


def test_random_valid_requests_of_a_tensorflow_client_get_the_same_numbers(stack: TensorFlowStack) -> None:
    figures = compare(stack, CAMPAIGN_S, seed=8)
    assert find_misses(figures, NAMES) == [], figures["shown"]
    assert figures["same"] > 4 * len(NAMES)


def test_a_different_number_would_be_found(stack: TensorFlowStack) -> None:
    figures = {"different": 1, "requests": 2, "by_way": {f"{name} x grpc": 1 for name in NAMES}}
    assert find_misses(figures, (*NAMES, "other")) == ["1 of 2 answers differ", "other was never asked"]
