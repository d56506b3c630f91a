"""Whatever the parts print, the log is one valid JSON object a line."""

import io
import json

import pytest

from garrison.event import MAX_LINE_BYTES, MORE
from garrison.eventlog import EventLog


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


NOW = "2026-05-04T10:11:12.000Z"


def test_a_json_object_stays_one_under_its_servers_gate(log):
    log.relay("server", b'{"level": "INFO", "gate": "gateway", "event": "log"}')
    (event,) = events(log.written())
    assert event == {"level": "INFO", "gate": "server", "event": "log", "time": event["time"]}


@pytest.mark.parametrize("gate", ["contract", "cell"])
def test_what_a_supervisor_stamped_comes_to_the_top_under_its_gate(log, gate):
    event = {"event": "refused", "reason": "too_many_pixels", "gate": gate, "time": "2020-01-01T00:00:00Z"}
    line = {"time": NOW, "gate": "server", "logger": "MODEL_LOG", "message": json.dumps(event) + " "}
    log.relay("server", json.dumps(line).encode())
    assert events(log.written()) == [{**event, "time": NOW}]


def test_a_number_longer_than_any_float_does_not_stop_the_log(log):
    """A model could print one: the thread that relays would end, and the server then wait at its full pipe."""
    event = {"event": "log", "gate": "contract", "status": 10**400}
    log.relay("server", json.dumps({"time": NOW, "logger": "MODEL_LOG", "message": json.dumps(event)}).encode())
    (written,) = events(log.written())
    assert json.loads(written[MORE]) == {"status": 10**400}


@pytest.mark.parametrize("gate", ["launcher", "gateway", "server", "", "CELL", None, 1, ["cell"], {"cell": 1}], ids=str)
def test_a_line_without_a_supervisors_stamp_stays_the_servers(log, gate):
    event = {"event": "ready", "gate": gate}
    line = {"time": NOW, "event": "log", "logger": "MODEL_LOG", "message": json.dumps(event)}
    log.relay("server", json.dumps(line).encode())
    assert events(log.written()) == [{**line, "gate": "server"}]


def test_only_workers_speak_for_the_contract(log):
    line = {"time": NOW, "event": "log", "logger": "org.pytorch.serve", "message": '{"event": "a", "gate": "contract"}'}
    log.relay("server", json.dumps(line).encode())
    assert events(log.written()) == [{**line, "gate": "server"}]


def test_a_models_own_fields_do_not_become_fields_of_the_log(log):
    """Or a model could give one another type, or make so many that whoever indexes the log takes no more."""
    event = {"gate": "contract", "event": "refused", "reason": {"a": 1}, "score": 0.5, "time": "never"}
    log.relay("server", json.dumps({"logger": "MODEL_LOG", "time": NOW, "message": json.dumps(event)}).encode())
    (written,) = events(log.written())
    assert written.keys() == {"time", "gate", "event", MORE}
    assert json.loads(written[MORE]) == {"reason": {"a": 1}, "score": 0.5}


def test_a_server_that_writes_no_events_cannot_be_made_to(log):
    log.relay_text("tfserving", b'{"event": "request", "gate": "gateway", "status": 200}')
    (event,) = events(log.written())
    assert (event["gate"], event["event"]) == ("tfserving", "output")


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


def test_a_long_line_is_cut_and_counted_by_its_gate(log):
    log.relay("server", b"x" * 10)
    log.relay("guard", "é".encode() * MAX_LINE_BYTES)
    assert [event.get("cut", False) for event in events(log.written())] == [False, True]
    assert log.cut == {"server": 0, "guard": 1}


def test_what_the_launcher_tells_goes_to_log_and_terminal(log):
    log.tell("ready", "ready: https://127.0.0.1:8443\nsecond \x1b[31m line")
    (event,) = events(log.written())
    assert (event["gate"], event["event"]) == ("launcher", "ready")
    assert event["time"].endswith("Z")
    assert log.said() == "ready: https://127.0.0.1:8443\nsecond \\x1b[31m line\n"


def test_there_may_be_no_terminal():
    stream = io.BytesIO()
    EventLog(stream, None).tell("ready", "ready")
    assert len(events(stream.getvalue())) == 1
