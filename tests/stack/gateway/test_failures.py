"""What a client hears when the model server fails."""

import pytest

from stack.gateways import DIGITS, Answer, Gateway, Place, assert_refused


@pytest.mark.parametrize(
    ("upstream", "status"), [(400, 400), (404, 404), (500, 500), (503, 503), (507, 500), (302, 500), (418, 500)]
)
def test_the_servers_own_errors_do_not_leak(gateway: Gateway, place: Place, upstream: int, status: int) -> None:
    place.inference.answer.status = upstream
    place.inference.answer.body = b'{"code": 1, "type": "InternalServerException", "message": "/srv/worker.py line 3"}'
    place.inference.answer.headers["location"] = "http://127.0.0.1:8081/models"
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
    assert_refused(reply, status, [])
    assert "location" not in reply.headers


def test_a_refusal_worded_by_the_handler_passes(gateway: Gateway, place: Place) -> None:
    body = b'{"reason": "too_many_pixels", "message": "The image has more pixels than this model accepts."}'
    place.inference.answer = Answer(422, {"x-garrison-reason": "too_many_pixels"}, body, place.inference.answer.gate)
    reply = gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x")
    assert (reply.status, reply.body, reply.headers["x-garrison-reason"]) == (422, body, "too_many_pixels")


@pytest.mark.parametrize("reason", ["Traceback /srv", "x" * 65, ""])
def test_a_reason_that_is_no_code_is_no_reason(gateway: Gateway, place: Place, reason: str) -> None:
    place.inference.answer.status = 500
    place.inference.answer.headers["x-garrison-reason"] = reason
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 500, [])


def test_a_long_error_is_replaced_too(gateway: Gateway, place: Place) -> None:
    place.inference.answer.status = 500
    place.inference.answer.body = b"secret " * 100_000
    assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 500, [])


def test_a_large_answer_passes(gateway: Gateway, place: Place) -> None:
    place.inference.answer.body = b"x" * 2_000_000
    assert len(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x").body) == 2_000_000


def test_a_server_that_does_not_answer_costs_the_contracts_timeout(gateway: Gateway, place: Place) -> None:
    place.inference.answer.gate.clear()
    try:
        assert_refused(gateway.send("POST", DIGITS, {"x-api-key": place.key()}, b"x"), 504, [])
    finally:
        place.inference.answer.gate.set()
