"""TensorFlow Serving's profile of compose.yaml, as a client sees it; the stand-in is the binary.

What the containers can do is tried in test_walls.py, test_seccomp.py and test_cis.py with all the others.
"""

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from containers.composing import ComposedStack, docker
from stack.observing import wait_for
from stack.running import MODELS, Target
from standins.saved_models.catalogue import Ask
from standins.saved_models.requests import ask_over, grpc_request, read_outputs

MODEL = "digits_tf"
REQUEST = (MODELS / MODEL / "samples/207.json").read_bytes()
DIGITS = [2, 0, 7]
PREDICT = f"/v1/models/{MODEL}:predict"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
RESTART_TIMEOUT_S = 120
FIND_TCP = "print(sum(len(open(f'/proc/net/{name}').readlines()) - 1 for name in ('tcp', 'tcp6', 'udp', 'udp6')))"
FIND_BINARY = """
import os
told = [(int(pid), open(f"/proc/{pid}/cmdline").read()) for pid in os.listdir("/proc") if pid.isdigit()]
print([pid for pid, command in told if "--grpc_socket_path" in command][0])
"""


@pytest.fixture(scope="module")
def channel(composed: ComposedStack, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A channel of gRPC to the published port."""
    certificate: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    composed.compose("cp", "gateway:/state/certificates/server.pem", certificate)
    credentials = grpc.ssl_channel_credentials(root_certificates=certificate.read_bytes())
    with grpc.secure_channel(f"localhost:{composed.target.port}", credentials) as channel:
        yield channel


def metadata(composed: ComposedStack) -> list[tuple[str, str]]:
    return [("x-api-key", composed.target.keys["demo"])]


def predict(target: Target) -> Any:
    return target.send(path=PREDICT, body=REQUEST, headers={"content-type": "application/json"})


def test_digits_are_predicted_by_rest(target: Target) -> None:
    answer = predict(target)
    assert answer.status == 200
    assert [row["digit"] for row in answer.json["predictions"]] == DIGITS


def test_digits_are_predicted_by_grpc(composed: ComposedStack, channel: Any) -> None:
    pixels = np.array(json.loads(REQUEST)["instances"], np.float32)
    answer = ask_over(channel, grpc_request(MODEL, Ask(inputs={"pixels": pixels})), metadata=metadata(composed))
    assert read_outputs(answer)["digit"].tolist() == DIGITS


def test_without_a_key_nothing_is_told(target: Target) -> None:
    assert target.send(path=PREDICT, body=REQUEST, key=None).status == 401
    assert target.send("GET", f"/v1/models/{MODEL}", key=None).status == 401


@pytest.mark.parametrize("method", [RELOAD, REFLECTION], ids=["reload", "reflection"])
def test_management_is_out_of_reach(composed: ComposedStack, channel: Any, method: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", timeout=10, metadata=metadata(composed))
    assert refused.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize("service", ["tfserving", "guard"])
def test_there_is_no_socket_of_a_network(composed: ComposedStack, service: str) -> None:
    assert composed.python(service, FIND_TCP).strip() == "0"
    host = composed.inspect(service)["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"]) == ("none", True)


def test_a_killed_binary_is_started_again_and_nobody_else_notices(composed: ComposedStack, target: Target) -> None:
    before = composed.python("tfserving", FIND_BINARY).strip()
    composed.python("tfserving", "import os, sys; os.kill(int(sys.argv[1]), 9)", before)
    wait_for(lambda: predict(target).status == 503, "the guard says that it is gone")
    assert target.send("GET", "/healthz", key=None).status == 200  # TorchServe's models are there
    wait_for(lambda: predict(target).status == 200, "it answers again", RESTART_TIMEOUT_S)
    assert composed.python("tfserving", FIND_BINARY).strip() != before
    assert docker("inspect", "--format", "{{.RestartCount}}", composed.container("tfserving")).strip() == "0"
