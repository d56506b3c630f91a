"""What no single request does: memory that grows with each name and wish, threads that wait, connections that stay.

Here it is counted what the server behind is asked for, and what the guard itself keeps, over many requests.
"""

import contextlib
import itertools
import socket
import threading
import time

import grpc
import h2.connection
import h2.events
import pytest

from attacks.guard.fortress import TIMEOUT_S, WAIT_S, Fortress
from attacks.guard.messaging import METADATA, PREDICT, predict
from attacks.guard.test_grpc_abuse import MOST_MB, MOST_S, Attack, call
from attacks.guard.test_rest_abuse import GOOD, http, read_answer, send

HONEST = Attack("", grpc.StatusCode.OK, "", predict())
SUBSETS = 385
NAMES = 300
RESETS = 5_000
SLOW = 100
HEADERS = [
    (":method", "POST"), (":scheme", "http"), (":path", PREDICT), (":authority", "guard"),
    ("content-type", "application/grpc"), ("te", "trailers"), *METADATA,
]  # fmt: skip


def subsets() -> list[tuple[str, ...]]:
    """Return different choices among ten outputs; upstream keeps a compiled step for each, for ever."""
    names = [f"out{number}" for number in range(10)]
    chosen = itertools.chain.from_iterable(itertools.combinations(names, size) for size in range(1, 10))
    return list(itertools.islice(chosen, SUBSETS))


def ask_subsets(fortress: Fortress, where: socket.SocketType | None = None) -> set[tuple[str, ...]]:
    """Ask for each choice of outputs, and return which lists the server was asked for."""
    for chosen in subsets():
        message = predict(signature="many", outputs=chosen)
        assert call(fortress, Attack("", grpc.StatusCode.OK, "", message), where)[0] is grpc.StatusCode.OK
    return {tuple(request.output_filter) for request in fortress.backend.requests()}


def test_whatever_outputs_are_wished_for_the_server_knows_one_list(fortress: Fortress) -> None:
    assert len(ask_subsets(fortress)) == 1
    assert len(fortress.backend.called) == SUBSETS
    assert fortress.peak_growth_mb() < MOST_MB


def test_without_a_guard_the_server_keeps_something_for_each_list(fortress: Fortress) -> None:
    assert len(ask_subsets(fortress, fortress.naive)) == SUBSETS


def test_names_that_do_not_exist_leave_nothing_behind(fortress: Fortress) -> None:
    """Upstream keeps a cell of its metrics for each name that was ever asked for."""

    def ask_names(which: int) -> set[str]:
        for number in range(NAMES):
            model = f"name-{which}-{number}"
            call(fortress, Attack("", grpc.StatusCode.NOT_FOUND, "", predict(model=model)))
            call(fortress, Attack("", grpc.StatusCode.NOT_FOUND, "", predict(signature=model)))
            assert send(fortress, http(GOOD, f"/v1/models/{model}:predict"))[0] == 404
        return {line.rpartition(" ")[0] for line in fortress.metrics().splitlines()}

    assert ask_names(1) == ask_names(2)
    assert fortress.backend.called == []
    assert fortress.peak_growth_mb() < MOST_MB


def test_who_sets_no_deadline_has_the_contracts(fortress: Fortress) -> None:
    """Upstream lets a call without a deadline run for ever."""
    fortress.backend.gate = threading.Event()
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as refused:
        fortress.channel(fortress.grpc).unary_unary(PREDICT)(predict(), None, metadata=METADATA)
    fortress.backend.gate.set()
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < WAIT_S / 2
    (left_s,) = [left for _, _, left in fortress.backend.called]
    assert left_s is not None
    assert 0 < left_s < TIMEOUT_S + 0.1


def test_requests_that_hang_leave_room_for_no_more_and_then_for_all(fortress: Fortress) -> None:
    """As many as the contract has room for wait; the next is refused at once, and none is lost for good."""
    fortress.backend.gate = threading.Event()
    started = [
        fortress.channel(fortress.grpc).unary_unary(PREDICT).future(predict(), WAIT_S, metadata=METADATA)
        for _ in range(40)
    ]
    reasons = [dict(one.trailing_metadata() or ()).get("x-garrison-reason") for one in started]
    fortress.backend.gate.set()
    assert set(reasons) == {"no_room", "deadline_exceeded"}
    assert reasons.count("deadline_exceeded") == len(fortress.backend.called) == 16  # 8 in the queue, 8 in a batch
    assert call(fortress, HONEST)[0] is grpc.StatusCode.OK


# Connections ----------------------------------------------------------------------------------------------------------


class Wire:
    """An HTTP/2 connection to the guard on which nothing is checked."""

    def __init__(self, fortress: Fortress) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(fortress.grpc))
        self.state = h2.connection.H2Connection()
        self.state.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.state.data_to_send())

    def ends(self, stream: int) -> bool:
        """Wait until the guard ends a stream, or the connection."""
        while True:
            data = self.socket.recv(65_536)
            if not data:
                return True
            for event in self.state.receive_data(data):
                if isinstance(event, h2.events.ConnectionTerminated):
                    return True
                ended = h2.events.StreamEnded | h2.events.StreamReset
                if isinstance(event, ended) and event.stream_id == stream:
                    return True
            self.flush()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\xff\xff\xff\xff" + predict(), id="a-message-of-4-GB-it-says"),
        pytest.param(b"\x01\x00\x00\x00\x02\x0a\x00", id="a-flag-that-says-compressed"),
        pytest.param(b"\x07\x00\x00\x00\x00", id="a-flag-that-nobody-knows"),
        pytest.param(b"\x00\x00\x00\x00\x00" * 3, id="three-messages"),
        pytest.param(bytes(range(256)) * 40, id="garbage"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_stream_of_something_else_ends(fortress: Fortress, data: bytes) -> None:
    wire = Wire(fortress)
    with contextlib.closing(wire.socket):
        wire.state.send_headers(1, HEADERS)
        wire.state.send_data(1, data, end_stream=True)
        wire.flush()
        assert wire.ends(1)
    assert fortress.backend.called == []
    assert fortress.peak_growth_mb() < MOST_MB
    assert call(fortress, HONEST)[0] is grpc.StatusCode.OK


def test_streams_that_are_opened_and_reset_at_once_leave_nothing(fortress: Fortress) -> None:
    """CVE-2023-44487: each costs the client nothing and the server a call."""
    wire = Wire(fortress)
    try:
        for number in range(RESETS):
            stream = 2 * number + 1
            wire.state.send_headers(stream, HEADERS)
            wire.state.reset_stream(stream)
            wire.flush()
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        pass  # the guard has had enough of it
    wire.socket.close()
    assert call(fortress, HONEST)[0] is grpc.StatusCode.OK
    assert fortress.peak_growth_mb() < MOST_MB


def test_bodies_that_never_end_keep_nobody_waiting(fortress: Fortress) -> None:
    """They wait for their own time to be over, in connections of their own, and hold no place of the model's."""
    slow = []
    for _ in range(SLOW):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(fortress.rest))
        connection.sendall(http()[:-1])
        slow.append(connection)
    taken = [send(fortress, http()) for _ in range(5)]
    assert {status for status, *_ in taken} == {200}
    assert min(seconds for *_, seconds in taken) < MOST_S
    for connection in slow[:5]:  # who gives the last byte after all is answered
        connection.sendall(http()[-1:])
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
    for connection in slow:
        connection.close()
    assert len(fortress.backend.called) == 10
    assert fortress.peak_growth_mb() < MOST_MB


def test_a_second_request_in_the_body_of_a_refused_one_is_never_read(fortress: Fortress) -> None:
    hidden = http()
    outer = http(hidden, "/v1/models/no-such:predict")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(fortress.rest))
        connection.sendall(outer)
        assert read_answer(connection).startswith(b"HTTP/1.1 404")
        assert fortress.backend.called == []
        connection.sendall(http())  # the connection goes on behind the body, or has ended
        with contextlib.suppress(ConnectionError):
            assert read_answer(connection).startswith((b"HTTP/1.1 200", b"HTTP/1.1 0 closed"))
    assert len(fortress.backend.called) <= 1
