"""Stopping: requests in flight end, new ones are not taken."""

import socket
import threading
from pathlib import Path

import pytest

from garrison.errors import GarrisonError
from garrison.gateway import drain
from stack.gateways import DIGITS, WAIT_S, Place, read_reply, wait_until


def test_draining_lets_requests_in_flight_finish_and_takes_no_new_ones(place: Place) -> None:
    place.inference.reset()
    place.inference.answer.gate.clear()
    gateway = place.start()
    verdicts: list[bool] = []
    try:
        with gateway.connect() as in_flight, gateway.connect() as idle:
            in_flight.sendall(
                f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\nx-api-key: {place.key()}\r\ncontent-length: 1\r\n\r\nx".encode()
            )
            assert place.inference.arrived.wait(WAIT_S)
            drainer = threading.Thread(target=lambda: verdicts.append(drain.drain_envoy(gateway.admin, WAIT_S)))
            drainer.start()
            wait_for_refusal(gateway.port)
            assert drain.count_active(gateway.admin) == 1
            assert verdicts == []
            place.inference.answer.gate.set()
            reply = read_reply(in_flight)
            drainer.join(WAIT_S)
            assert (reply.status, reply.body, reply.headers["connection"]) == (200, b'{"label": 7}', "close")
            assert verdicts == [True]
            idle.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert read_reply(idle, "GET").headers["connection"] == "close"
        assert gateway.process.poll() is None
    finally:
        gateway.stop()


def wait_for_refusal(port: int) -> None:
    for _ in wait_until(WAIT_S):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return
    raise AssertionError("new connections are still accepted")


def test_draining_gives_up_when_its_time_is_over(place: Place) -> None:
    place.inference.reset()
    place.inference.answer.gate.clear()
    gateway = place.start()
    try:
        with gateway.connect() as in_flight:
            in_flight.sendall(
                f"POST {DIGITS} HTTP/1.1\r\nhost: a\r\nx-api-key: {place.key()}\r\ncontent-length: 1\r\n\r\nx".encode()
            )
            assert place.inference.arrived.wait(WAIT_S)
            assert drain.drain_envoy(gateway.admin, 0.1) is False
    finally:
        place.inference.answer.gate.set()
        gateway.stop()


def test_draining_nothing_cannot_be_decided(tmp_path: Path) -> None:
    with pytest.raises(GarrisonError, match="does not answer"):
        drain.drain_envoy(tmp_path / "nobody.sock", 1)
