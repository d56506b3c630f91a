"""Whatever the parts print, the log is one valid JSON object a line."""

import io
import json

import pytest

from garrison.eventlog import MAX_MESSAGE_CHARACTERS, EventLog


@pytest.fixture
def log():
    """An event log and what it wrote."""
    stream, terminal = io.BytesIO(), io.StringIO()
    event_log = EventLog(stream, terminal)
    event_log.written = stream.getvalue
    event_log.said = terminal.getvalue
    return event_log


def events(data: bytes) -> list[dict]:
    def refuse(name):
        raise ValueError(name)

    lines = data.decode("utf-8").split("\n")
    assert lines.pop() == ""
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_a_json_object_stays_one_under_its_servers_gate(log):
    log.relay("server", b'{"level": "INFO", "gate": "gateway"}')
    assert json.loads(log.written()) == {"level": "INFO", "gate": "server"}


@pytest.mark.parametrize("gate", ["contract", "cell"])
def test_what_a_supervisor_stamped_comes_to_the_top_under_its_gate(log, gate):
    event = {"event": "refused", "reason": "too_many_pixels", "gate": gate, "time": "forged"}
    line = {"time": "now", "gate": "server", "logger": "MODEL_LOG", "message": json.dumps(event) + " "}
    log.relay("server", json.dumps(line).encode())
    assert json.loads(log.written()) == {**event, "time": "now"}


@pytest.mark.parametrize("gate", ["launcher", "gateway", "server", "", "CELL", None, 1, ["cell"], {"cell": 1}], ids=str)
def test_a_line_without_a_supervisors_stamp_stays_the_servers(log, gate):
    event = {"event": "ready", "gate": gate}
    line = {"time": "now", "logger": "MODEL_LOG", "message": json.dumps(event)}
    log.relay("server", json.dumps(line).encode())
    assert json.loads(log.written()) == {**line, "gate": "server"}


def test_only_workers_speak_for_the_contract(log):
    line = {"logger": "org.pytorch.serve", "message": '{"event": "refused", "gate": "contract"}'}
    log.relay("server", json.dumps(line).encode())
    assert json.loads(log.written()) == {**line, "gate": "server"}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"OpenJDK warning: ...", id="text"),
        pytest.param(b"[1, 2]", id="json-list"),
        pytest.param(b'"text"', id="json-text"),
        pytest.param(b"{broken", id="broken-json"),
        pytest.param(b'{"a": 1} trailing', id="two-things"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b"{\x00}\x00", id="utf-16"),
        pytest.param(b'{"a": "\xff"}', id="json-not-utf-8"),
        pytest.param(b'{"a":' * 20_000, id="deep"),
        pytest.param(b'{"a": "\x1b[31m"}', id="raw-control-character-in-json"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="number-too-long"),
        pytest.param(b"\xff\xfe\x00", id="no-text"),
        pytest.param(b"\x1b[2J\x1b[31mred\r\n{}", id="terminal-escapes-and-a-second-line"),
        pytest.param("\u2028\x85".encode(), id="unicode-line-ends"),
    ],
)
def test_anything_else_is_wrapped(log, line):
    log.relay("server", line)
    (event,) = events(log.written())
    assert (event["gate"], event["event"]) == ("server", "output")
    assert b"\x1b" not in log.written()


@pytest.mark.parametrize("line", [b"", b"  ", b"\t\r\n"])
def test_an_empty_line_is_left_out(log, line):
    log.relay("server", line)
    assert log.written() == b""


@pytest.mark.parametrize("extra", [0, 1], ids=["at-the-limit", "over"])
def test_a_long_message_is_cut(log, extra):
    log.relay("server", b"x" * (MAX_MESSAGE_CHARACTERS + extra))
    assert len(events(log.written())[0]["message"]) == MAX_MESSAGE_CHARACTERS


def test_what_the_launcher_tells_goes_to_log_and_terminal(log):
    log.tell("ready", "ready: https://127.0.0.1:8443\nsecond \x1b[31m line")
    (event,) = events(log.written())
    assert (event["gate"], event["event"]) == ("launcher", "ready")
    assert event["time"].endswith("Z")
    assert log.said().startswith("ready: https")


def test_there_may_be_no_terminal():
    stream = io.BytesIO()
    EventLog(stream, None).tell("ready", "ready")
    assert len(events(stream.getvalue())) == 1
