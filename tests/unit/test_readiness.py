"""A model is ready when a worker of it has answered; whatever the server says, asking never fails."""

import contextlib
import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from garrison.torchserve.readiness import ModelMonitor, ReadinessServer
from garrison.unix_http import MAX_ANSWER_BYTES, send_request

READY = [{"customizedMetadata": {"ready": True}}]


class Server(socketserver.ThreadingUnixStreamServer):
    """A management socket whose answers are bytes by target."""

    daemon_threads = True
    answers: dict[str, bytes]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.answers.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def management(tmp_path):
    """Start a server on a unix socket; a test sets its answers."""
    server = Server(str(tmp_path / "m.sock"), lambda *a: Handler(a[0], ("", 0), a[2]))
    server.answers = {}
    server.path = tmp_path / "m.sock"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def workers(*pairs) -> bytes:
    return json.dumps([{"workers": [{"pid": pid, "status": status} for pid, status in pairs]}]).encode()


def test_a_model_is_ready_once_a_worker_has_answered(management):
    monitor = ModelMonitor(management.path, ["a"])
    management.answers["/models/a"] = workers((7, "READY"), (8, "UNLOADING"), (0, "READY"))
    assert not monitor.poll()[0].ready
    management.answers["/models/a?customized=true"] = json.dumps(READY).encode()
    (state,) = monitor.poll()
    assert (state.ready, state.pids, state.tried_pids) == (True, {7}, {7, 8})


def test_a_model_stays_ready_while_a_worker_is_listed_and_not_longer(management):
    monitor = ModelMonitor(management.path, ["a"])
    management.answers |= {"/models/a": workers((7, "READY")), "/models/a?customized=true": json.dumps(READY).encode()}
    assert monitor.poll()[0].ready
    del management.answers["/models/a?customized=true"]
    assert monitor.poll()[0].ready
    management.answers["/models/a"] = workers((7, "UNLOADING"))
    assert not monitor.poll()[0].ready


def test_a_server_that_was_started_again_has_to_answer_again(management):
    monitor = ModelMonitor(management.path, ["a"])
    management.answers |= {"/models/a": workers((7, "READY")), "/models/a?customized=true": json.dumps(READY).encode()}
    monitor.poll()
    monitor.forget()
    del management.answers["/models/a?customized=true"]
    assert not monitor.poll()[0].ready


def test_one_model_that_is_not_ready_does_not_hide_another(management):
    management.answers |= {"/models/b": workers((7, "READY")), "/models/b?customized=true": json.dumps(READY).encode()}
    assert [state.ready for state in ModelMonitor(management.path, ["a", "b"]).poll()] == [False, True]


ODD = [
    *(b"", b"{", b"null", b"[]", b"[null]", b"[1]", b"{}", b'[{"workers": null}]', b'[{"workers": {"a": 1}}]', b"\xff"),
    *(b'[{"workers": ["x"]}]', b'[{"workers": [{"pid": "N/A"}]}]', b'[{"workers": [{"pid": null}]}]', b"[" * 100_000),
    *(
        b'[{"workers": [{}]}]',
        b'[{"workers": [{"pid": -1, "status": "READY"}]}]',
        b'[{"workers": [{"pid": 0}]}]',
        b"x" * 10,
    ),
    *(b'[{"workers": [{"pid": 1.5, "status": "READY"}]}]', b"9" * 5000),
]


@pytest.mark.parametrize("answer", ODD, ids=lambda answer: repr(answer[:40]))
def test_an_odd_list_of_workers_is_not_ready(management, answer):
    management.answers |= {"/models/a": answer, "/models/a?customized=true": json.dumps(READY).encode()}
    (state,) = ModelMonitor(management.path, ["a"]).poll()
    assert (state.ready, state.pids) == (False, frozenset())


@pytest.mark.parametrize(
    "answer",
    [*ODD, b'[{"customizedMetadata": null}]', b'[{"customizedMetadata": {"ready": "true"}}]'],
    ids=lambda answer: repr(answer[:40]),
)
def test_an_odd_description_is_not_ready(management, answer):
    management.answers |= {"/models/a": workers((7, "READY")), "/models/a?customized=true": answer}
    assert not ModelMonitor(management.path, ["a"]).poll()[0].ready


def test_a_worker_without_a_status_is_listed_and_not_ready(management):
    management.answers["/models/a"] = b'[{"workers": [{"pid": 7}]}]'
    (state,) = ModelMonitor(management.path, ["a"]).poll()
    assert (state.pids, state.tried_pids) == (frozenset(), {7})


def test_no_server_means_not_ready(tmp_path):
    assert not ModelMonitor(tmp_path / "nobody.sock", ["a"]).poll()[0].ready


def test_an_answer_is_cut_off(management):
    management.answers["/big"] = b"x" * (MAX_ANSWER_BYTES + 1)
    assert len(send_request(management.path, "GET", "/big", 5).body) == MAX_ANSWER_BYTES


def test_nobody_listening_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        send_request(tmp_path / "nobody.sock", "GET", "/", 1)


def test_the_readiness_socket_follows_its_switch(tmp_path):
    server = ReadinessServer(tmp_path / "ready.sock")
    try:
        statuses = []
        for ready in (False, True, False):
            server.ready = ready
            answer = send_request(tmp_path / "ready.sock", "GET", "/any/path", 5)
            statuses.append((answer.status, json.loads(answer.body)["status"]))
    finally:
        server.close()
    assert statuses == [(503, "not ready"), (200, "ready"), (503, "not ready")]


def test_the_readiness_socket_knows_one_method(tmp_path):
    server = ReadinessServer(tmp_path / "ready.sock")
    try:
        assert send_request(tmp_path / "ready.sock", "POST", "/", 5).status == 501
    finally:
        server.close()


def test_a_readiness_socket_that_was_removed_is_made_again(tmp_path):
    path = tmp_path / "ready.sock"
    server = ReadinessServer(path)
    try:
        server.ready = True
        path.unlink()
        server.reopen()
        assert send_request(path, "GET", "/", 5).status == 200
    finally:
        server.close()
