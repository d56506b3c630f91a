"""A header that means something further inside.

TorchServe's workers obey headers that any client can send: `explain: True` asks for an explanation instead of an
answer, which costs many times as much; `describe: True` asks what the handler is. Others want to be somebody else
(`x-garrison-client`), choose the id that the logs are joined on, or reach another route than the one that was checked.
Here an allow-list says which headers travel on; what it does not name ends at the gateway.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.catalogue import Attack, attacks_on, sample_digit
from attacks.weakened import gateway_without, recording_server
from garrison.unix_http import send_request
from stack.running import Answer, RunningStack, Target

SMUGGLED = {
    "explain": "True",
    "describe": "True",
    "X-Garrison-Client": "neighbour",
    "x-request-id": "chosen-by-the-client",
    "x-forwarded-for": "10.0.0.1",
    "x-original-url": "/models",
    "x-envoy-upstream-rq-timeout-ms": "600000",
    "authorization": "Bearer secret",
    "cookie": "session=secret",
}


@pytest.mark.parametrize("attack", attacks_on("smuggled_headers"), ids=lambda attack: attack.name)
def test_the_header_changes_nothing(
    target: Target, attack: Attack, assert_stopped: Callable[[Attack, Answer], None]
) -> None:
    answer = attack.attempt(target)
    assert_stopped(attack, answer)
    assert answer.body == target.send(body=sample_digit()).body


@pytest.mark.parametrize("name", SMUGGLED)
def test_one_by_one_they_are_no_part_of_the_request(target: Target, name: str) -> None:
    answer = target.send(body=sample_digit(), headers={name: SMUGGLED[name]})
    assert (answer.status, answer.body) == (200, target.send(body=sample_digit()).body)


def test_what_arrives_behind_the_gateway_is_on_the_list(running: RunningStack, directory: Path) -> None:
    socket = directory / "recorder.sock"
    with recording_server(socket) as seen, gateway_without(running, directory, upstream=socket) as whole:
        assert whole.send(body=b"x", headers=SMUGGLED).status == 200
    (request,) = seen
    headers = {"host", "content-type", "content-length", "accept", "x-request-id", "x-garrison-client"}
    assert set(request.headers) <= headers
    assert request.headers["x-garrison-client"] == "demo"
    assert request.headers["x-request-id"] != "chosen-by-the-client"


def test_nobody_can_be_somebody_else_in_the_log(running: RunningStack) -> None:
    answer = running.target.send(
        body=sample_digit(), headers={"x-garrison-client": "neighbour", "x-request-id": "mine"}
    )
    request_id = answer.headers["x-request-id"]
    deadline = time.monotonic() + 10
    while not (lines := [event for event in running.events() if event.get("request_id") == request_id]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [line["client"] for line in lines] == ["demo"]
    assert request_id != "mine"


# Without the gate -----------------------------------------------------------------------------------------------------


def test_without_the_list_the_worker_obeys(running: RunningStack, directory: Path) -> None:
    describe = next(attack for attack in attacks_on("smuggled_headers") if "describe" in attack.name)
    with gateway_without(running, directory, "garrison.headers") as weak:
        answer = describe.attempt(weak)
    assert (answer.status, answer.json) == (200, {"ready": True})


def test_without_the_list_every_header_travels_on(running: RunningStack, directory: Path) -> None:
    socket = directory / "recorder.sock"
    with (
        recording_server(socket) as seen,
        gateway_without(running, directory, "garrison.headers", upstream=socket) as weak,
    ):
        weak.send(body=b"x", headers=SMUGGLED)
    (request,) = seen
    assert (request.headers["explain"], request.headers["cookie"]) == ("True", "session=secret")
    assert request.headers["x-garrison-client"] == "demo"  # this one falls to another list, before the first filter


def test_without_the_gateway_the_header_reaches_the_worker(running: RunningStack) -> None:
    inference = running.run_directory / "inference.sock"
    headers = {"describe": "True", "content-type": "application/octet-stream"}
    answer = send_request(inference, "POST", "/predictions/digits", 30, sample_digit(), headers)
    assert (answer.status, json.loads(answer.body)) == (200, {"ready": True})
