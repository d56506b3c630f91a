"""Whatever a worker prints, what leaves the relay is lines of JSON with our stamp, bounded in length and in rate."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.cell import output
from garrison.cell.output import MAX_LINE_BYTES, MAX_STAMPED_CHARACTERS, READ_AT_ONCE_BYTES, Relay

KIBIBYTE = 1024


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Observed(Relay):
    """A relay that collects what it writes, and checks what must hold for every line."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.written: list[bytes] = []
        super().__init__("digits", self.written.append, self.clock)

    def events(self) -> list[dict]:
        events = []
        for line in self.written:
            assert line.startswith(b"{") and line.endswith(b"}\n") and line.count(b"\n") == 1
            assert line.isascii() and line[:-1].decode().isprintable()
            assert len(line) <= MAX_STAMPED_CHARACTERS + 1
            event = json.loads(line, parse_constant=pytest.fail)
            assert event["model"] == "digits" and event["gate"] in ("contract", "cell")
            assert isinstance(event["event"], str)
            events.append(event)
        return events

    def messages(self) -> list[str]:
        return [event["message"] for event in self.events()]


@pytest.fixture
def relay() -> Observed:
    return Observed()


def test_a_line_of_text_becomes_an_output_event(relay):
    relay.feed("stdout", b"loading the labels\n")
    assert relay.events() == [
        {"gate": "contract", "event": "output", "model": "digits", "message": "loading the labels"}
    ]


def test_an_object_keeps_its_fields_but_not_gate_and_model(relay):
    event = {"event": "refused", "gate": "cell", "model": "another", "detail": {"é": [1, None]}}
    relay.feed("stdout", json.dumps(event).encode() + b"\n")
    assert relay.events() == [{**event, "gate": "contract", "model": "digits"}]


@pytest.mark.parametrize("event", [{}, {"event": 5}, {"event": None, "message": "hello"}], ids=str)
def test_an_object_without_a_name_is_output(relay, event):
    relay.feed("stdout", json.dumps(event).encode() + b"\n")
    assert relay.events()[0]["event"] == "output"


@pytest.mark.parametrize(
    "line",
    [
        b"[METRICS]x.Milliseconds:1|#Level:Host|#hostname:h,timestamp:1",
        b"[PID]1",
        b"Torch worker started.",
        b"INFO {}",
        b'[{"event": "ready"}]',
        b'"text"',
        b"{",
        b'{"event": "ready"',
        b'{"event": "ready"} {"event": "ready"}',
        b'{"event": NaN}',
        b'{"number": -Infinity}',
        b'{"number": 1e999}',
        b'{"number": ' + b"9" * 4000 + b"}",
        b'{"number": ' + b"9" * 4050 + b"}",
        b'{"event": "\\ud800"}',
        b'{"\\udc00": "\\ud800"}',
        b'{"event": "\xff\xfe"}',
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"\xef\xbb\xbf{}",
        b"\x00\x1b]0;title\x07\x9b31m",
    ],
    ids=lambda line: repr(line[:25]),
)
def test_what_is_not_one_plain_object_is_output(relay, line):
    relay.feed("stdout", line + b"\n")
    (event,) = relay.events()
    assert event["gate"] == "contract" and event["event"] == "output"
    assert event["message"][:10] == line.decode("utf-8", "replace")[:10]


def test_of_a_key_that_stands_twice_one_is_left_and_never_our_own(relay):
    relay.feed("stdout", b'{"gate":"cell","event":"a","gate":"launcher","model":"x","event":"b"}\n')
    assert relay.events() == [{"gate": "contract", "event": "b", "model": "digits"}]


def test_the_two_streams_do_not_mix(relay):
    relay.feed("stdout", b'{"event":')
    relay.feed("stderr", b"a traceback\n")
    relay.feed("stdout", b'"ready"}\n')
    assert [event["event"] for event in relay.events()] == ["output", "ready"]


def test_each_state_of_a_progress_bar_is_a_line(relay):
    relay.feed("stderr", b"\r 10 %\r 20 %\r\n")
    assert relay.messages() == [" 10 %", " 20 %"]


@pytest.mark.parametrize("over", [0, 1], ids=["at the limit", "over it"])
def test_a_long_line_is_cut_and_says_so(relay, over):
    room = MAX_STAMPED_CHARACTERS - len(json.dumps({**relay_event(), "message": ""}))
    relay.feed("stdout", b"x" * (room + over) + b"\n")
    assert relay.messages()[0].endswith("... (cut)") == bool(over)


def relay_event() -> dict:
    return {"gate": "contract", "event": "output", "model": "digits"}


def test_an_object_that_is_too_long_is_output(relay):
    relay.feed("stdout", json.dumps({"event": "refused", "detail": "x" * 2000}).encode() + b"\n")
    assert relay.events()[0]["event"] == "output"
    assert relay.messages()[0].startswith('{"event": "refused"')


@pytest.mark.parametrize("character", ["\x01", "\\", '"', "é", "\U0001f600"], ids=ascii)
def test_characters_that_need_escapes_do_not_make_a_line_longer(relay, character):
    relay.feed("stdout", (character * 1800).encode() + b"\n")
    assert relay.messages()[0].startswith(character * 50)


def test_an_endless_line_is_held_up_to_a_bound_and_the_rest_counted(relay):
    for _ in range(100):
        relay.feed("stdout", b"x" * 10_000)
    assert relay.dropped_bytes == 100 * 10_000 - MAX_LINE_BYTES
    assert all(event["event"] == "output_dropped" for event in relay.events())
    relay.feed("stdout", b"\nnext\n")
    first, second = (event["message"] for event in relay.events() if event["event"] == "output")
    assert first.startswith("xxx") and first.endswith("(cut)") and second == "next"


def test_the_beginning_of_a_line_waits_for_its_end_but_not_for_ever(relay):
    relay.feed("stdout", b"loading ...")
    relay.tick()
    assert relay.messages() == []
    relay.clock.now += output.LONGEST_WAIT_S + 0.1
    relay.tick()
    assert relay.messages() == ["loading ..."]


def test_the_last_words_need_no_newline(relay):
    relay.feed("stderr", b"Segmentation fault")
    relay.flush()
    relay.flush()
    assert relay.messages() == ["Segmentation fault"]


@pytest.mark.parametrize("line", [b"\n", b" \n", b"x\n", b"{}\n", b"x" * 1000 + b"\n"], ids=lambda line: repr(line[:5]))
def test_a_flood_is_cut_to_the_rate_and_the_rest_counted(relay, line):
    seconds, chunk = 20, line * (512 * KIBIBYTE // len(line))
    fed = 0
    for _ in range(seconds * 10):
        relay.feed("stdout", chunk)
        fed += len(chunk)
        relay.clock.now += 0.1
    relay.flush()
    most = output.FORWARDED_BYTES_PER_S * seconds + output.FORWARDED_AT_ONCE_BYTES
    told = [event for event in relay.events() if event["event"] == "output_dropped"]
    forwarded = [event for event in relay.events() if event["gate"] == "contract"]
    assert len(forwarded) * output.LINE_COST_BYTES <= most + output.LINE_COST_BYTES
    assert sum(map(len, relay.written)) <= most + len(told) * MAX_STAMPED_CHARACTERS
    assert 0 < sum(event["bytes"] for event in told) == relay.dropped_bytes < fed
    assert len(told) <= seconds / output.REPORT_INTERVAL_S + 2


def test_after_a_flood_a_line_passes_whole_again(relay):
    relay.feed("stdout", b"x\n" * 1_000_000)
    relay.feed("stdout", b"hal")
    relay.feed("stdout", b"f a line\n")
    relay.clock.now += 1
    relay.feed("stdout", b"a whole one\n")
    assert [message for message in relay.messages() if "line" in message or "whole" in message] == ["a whole one"]


def test_no_more_is_read_than_the_second_rate(relay):
    read, began = 0, relay.clock.now
    while relay.clock.now < began + 10:
        if size := relay.allowance():
            relay.feed("stdout", b"x" * size)
            read += size
        else:
            relay.clock.now += 0.001
    assert read <= 10 * output.READ_BYTES_PER_S + output.SAVED_READS * READ_AT_ONCE_BYTES
    assert read >= 9 * output.READ_BYTES_PER_S


def test_who_prints_little_never_waits(relay):
    for _ in range(1000):
        assert relay.allowance() == READ_AT_ONCE_BYTES
        relay.feed("stdout", b"x" * KIBIBYTE)
        relay.clock.now += 0.001


def test_own_events_have_their_own_gate(relay):
    relay.tell("violation", "tried to open a socket", syscall="socket", count=1)
    assert relay.events() == [
        {
            "gate": "cell",
            "event": "violation",
            "model": "digits",
            "syscall": "socket",
            "count": 1,
            "message": "tried to open a socket",
        }
    ]


@pytest.mark.parametrize(
    "fields",
    [{"name": "x" * 5000}, {"name": "\udc80"}, {"gate": "launcher"}, {"path": object()}, {"n": float("nan")}],
    ids=lambda fields: next(iter(fields)),
)
def test_own_events_are_lines_whatever_is_in_them(relay, fields):
    relay.tell("violation", "\x00" * 3000, **fields)
    (event,) = relay.events()
    assert event["event"] == "violation" and event["gate"] == "cell"


lines = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda value: json.dumps(value).encode(), st.recursive(st.integers() | st.text() | st.floats(), st.lists)
    ),
    st.builds(
        lambda fields: json.dumps(fields).encode(),
        st.dictionaries(
            st.sampled_from(["gate", "event", "model", "message", "time"]) | st.text(),
            st.text() | st.none() | st.floats() | st.integers(),
        ),
    ),
    st.sampled_from([b"[METRICS]", b"[PID]1", b"Torch worker started.", b"{" * 3000, b"\x00" * 5000, b"\r\n", b""]),
)


@given(
    st.lists(lines, max_size=20), st.lists(st.integers(0, 20_000), max_size=20), st.sampled_from([b"\n", b"\r", b""])
)
def test_any_bytes_in_any_pieces_leave_as_stamped_lines(printed, cuts, separator):
    data = separator.join(printed)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    relay = Observed()
    for number, (start, end) in enumerate(pairwise(edges)):
        relay.feed("stderr" if number % 5 == 4 else "stdout", data[start:end])
        relay.clock.now += 0.3
        relay.tick()
    relay.flush()
    for event in relay.events():
        assert event["gate"] == "contract" or event["event"] == "output_dropped"
