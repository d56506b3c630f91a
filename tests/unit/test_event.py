"""Whatever a part says, an event is one line of ASCII JSON, of known fields and types, and of a bounded length."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.event import (
    CUT,
    MAX_LINE_BYTES,
    MAX_TEXT_CHARACTERS,
    MORE,
    NUMBERS,
    TEXTS,
    escape,
    read_event,
    write_event,
)
from garrison.gateway import access_log

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "x" * 9000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.timezones()).map(str)
FIELDS = st.dictionaries(
    st.sampled_from(["time", "gate", "event", "cut", MORE, *sorted(TEXTS | NUMBERS)]), VALUES | TIMES
)


def write(**fields: object) -> dict:
    line, cut = write_event("server", fields)
    event = json.loads(line)
    assert cut == event.get("cut", False)
    return event


@given(FIELDS | st.dictionaries(st.text(), VALUES))
def test_any_fields_become_one_bounded_line_of_known_fields_and_types(fields):
    line, _ = write_event("guard", fields)
    assert len(line) <= MAX_LINE_BYTES
    assert line.isascii() and line.decode().isprintable()
    event = json.loads(line, parse_constant=pytest.fail)
    assert json.dumps(event, ensure_ascii=False).encode()  # no half of a surrogate pair
    assert event["gate"] == "guard"
    kinds = {**dict.fromkeys(TEXTS | {MORE, "time", "gate", "event"}, str), "cut": bool}
    assert all(type(value) in ((kinds[name],) if name in kinds else (int, float)) for name, value in event.items())
    assert event.keys() <= {*kinds, *NUMBERS}


def test_every_text_as_long_as_it_may_be_makes_a_line_that_fits():
    line, cut = write_event("gateway", dict.fromkeys(TEXTS, "\x1b" * 5000) | dict.fromkeys(NUMBERS, 2**52))
    assert cut and len(line) <= MAX_LINE_BYTES


@pytest.mark.parametrize("over", [0, 1], ids=["at-the-limit", "over"])
def test_a_long_text_is_cut_and_the_event_says_so(over):
    event = write(event="log", message="x" * (MAX_TEXT_CHARACTERS + over), detail="whole")
    assert len(event["message"]) == MAX_TEXT_CHARACTERS
    assert event["message"].endswith(CUT) == event.get("cut", False) == bool(over)
    assert event["detail"] == "whole"


def test_what_was_cut_before_is_said_to_be_cut():
    assert write(message="x" + CUT)["cut"] is True


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "200"), ("status", True), ("bytes", 2**53), ("count", float("inf")), ("client", 5), ("model", ["a"]),
     ("score", 0.5), ("cut", True), ("event", "Not a name"), ("event", "x" * 41), (MORE, "mine")],
    ids=str,
)  # fmt: skip
def test_what_has_no_field_of_its_type_stands_as_text_in_more(name, value):
    event = write(**{name: value})
    assert event.keys() == {"time", "gate", "event", MORE}
    assert event["event"] == "output"
    assert json.loads(event[MORE]) == {name: value}


def test_nothing_is_said_of_what_is_none():
    assert write(model=None, score=None).keys() == {"time", "gate", "event"}


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("2026-11-28T09:10:11.123456+01:00", "2026-11-28T08:10:11.123Z"),
        ("2026-11-28T09:10:11Z", "2026-11-28T09:10:11.000Z"),
    ],
)
def test_a_time_is_that_of_utc_in_milliseconds(said, written):
    assert write(time=said)["time"] == written


@pytest.mark.parametrize("said", ["", "now", "2026-11-28T09:10:11", 17, None, "0001-01-01T00:00:00+14:00"], ids=str)
def test_what_is_no_time_is_now(said):
    written = datetime.fromisoformat(write(time=said)["time"])
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"OpenJDK warning: ...", id="text"),
        pytest.param(b"[1, 2]", id="json-list"),
        pytest.param(b"{broken", id="broken-json"),
        pytest.param(b'{"a": 1} trailing', id="two-things"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a":' * 20_000, id="deep"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="number-too-long"),
        pytest.param(b' {"a": 1}', id="space-before"),
    ],
)
def test_what_is_not_one_object_is_no_event(line):
    assert read_event(line) is None


def test_bytes_that_are_no_text_do_not_make_an_event_something_else():
    assert read_event(b'{"event": "management_attempt", "path": "/\xff"}') == {
        "event": "management_attempt", "path": "/\ufffd",
    }  # fmt: skip


def test_what_the_gateway_logs_of_a_request_are_fields_of_an_event():
    assert access_log.TEXTS.keys() <= TEXTS
    assert access_log.NUMBERS.keys() <= NUMBERS


def test_escapes_of_a_terminal_are_written_out_and_ends_of_lines_kept_where_they_are_ours():
    assert escape("a\x1b[31m\nb\x9b\u2028") == "a\\x1b[31m\nb\\x9b\\u2028"
    assert escape("a\nb", keep="") == "a\\nb"
