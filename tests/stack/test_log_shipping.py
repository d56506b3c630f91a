"""The log is shipped by Debian's syslog-ng with the configurations in config/logging: all of it, and nothing else."""

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from garrison.event import MAX_LINE_BYTES, MORE, NUMBERS, TEXTS, write_event
from stack.observing import wait_for
from stack.shipping import LOGGING, Sent, Shipper, listening, read_bulk, read_collected

MANY = 400
READERS = {"elasticsearch": read_bulk, "splunk": read_collected}
SMALL = {
    "disk-buf-size(268435456)": "disk-buf-size(2097152)",
    "mem-buf-size(67108864)": "mem-buf-size(1048576)",
    "log-iw-size(2000)": "log-iw-size(200)",
    "max-files(20)": "max-files(2)",
    "batch-lines(500)": "batch-lines(50)",  # or each batch would wait for more than may be on its way
}
LONGEST_IN_BUFFER_BYTES = 32 * 1024  # of the longest line, with what syslog-ng notes beside it
WAIT_S = 40


def make_lines(count: int, start: int = 0, length: int = 20) -> list[str]:
    """Return events as the launcher writes them, whose texts have what a shipper might trip over."""
    text = '"quotes" \\ ${MESSAGE} `GARRISON_LOGS` \n \x1b[2J é ' + "x" * length
    return [
        write_event("gateway", {"event": "request", "message": text, "count": number})[0].decode()
        for number in range(start, start + count)
    ]


def arrived(kind: str, sent: list[Sent]) -> list[tuple[str, dict[str, Any]]]:
    return [pair for one in sent for pair in READERS[kind](one.body)]


def wait_for_all(kind: str, shipper: Shipper, lines: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Wait until every line has been taken; return what was."""
    wanted = {json.loads(line)["count"] for line in lines}

    def complete() -> bool:
        return {event["count"] for _, event in arrived(kind, shipper.endpoint.taken())} >= wanted

    wait_for(complete, "every event was taken", WAIT_S)
    return arrived(kind, shipper.endpoint.taken())


@pytest.mark.parametrize("kind", READERS)
def test_nothing_is_lost_while_the_other_side_is_away_says_no_or_the_shipper_is_killed(
    tmp_path: Path, kind: str
) -> None:
    shipper, lines = Shipper(tmp_path, kind), make_lines(3 * MANY)
    shipper.write(lines[:MANY])
    with shipper.running(signal.SIGKILL):  # nobody listens there
        wait_for(lambda: shipper.buffered_bytes() > MANY * 50, "events wait on the disk")
    shipper.write(lines[MANY : 2 * MANY])
    shipper.endpoint.statuses = [503, 429, 401]
    with shipper.running(), listening(shipper.endpoint):
        wait_for(lambda: not shipper.endpoint.statuses, "it said no")
        shipper.write(lines[2 * MANY :])
        taken = wait_for_all(kind, shipper, lines)
    known = [json.loads(line) for line in lines]
    assert all(event in known for _, event in taken)
    request = shipper.endpoint.taken()[0]
    if kind == "elasticsearch":
        assert (request.path, request.headers["authorization"]) == ("/_bulk", "ApiKey a-secret")
        assert request.headers["content-type"] == "application/x-ndjson"
        ids = dict[str, int]()
        for name, event in arrived(kind, shipper.endpoint.sent):  # what is sent again has the id that it had
            assert ids.setdefault(name, event["count"]) == event["count"]
    else:
        assert (request.path, request.headers["authorization"]) == ("/services/collector/event", "Splunk a-secret")
        assert all(datetime.fromtimestamp(float(time), UTC) == _time_of(event) for time, event in taken)


def test_what_waits_on_the_disk_is_bounded_and_the_rest_stays_in_the_log(tmp_path: Path) -> None:
    shipper, lines = Shipper(tmp_path, "elasticsearch", SMALL), make_lines(4000, length=1000)
    shipper.write(lines)
    assert sum(map(len, lines)) > 2 * 2**21
    with shipper.running():
        wait_for(lambda: shipper.buffered_bytes() > 2**20, "events wait on the disk")
        with listening(shipper.endpoint):
            wait_for_all("elasticsearch", shipper, lines)
            assert shipper.buffered_bytes() < 3 * 2**20


def test_what_is_no_event_stays_and_dockers_wrapping_is_taken_off(tmp_path: Path) -> None:
    shipper, (first, second) = Shipper(tmp_path, "splunk"), make_lines(2)
    others = ["a sentence", '{"x": 1}', f"{first} and more", "[1]", "{", '{"gate": "", "event": ""}']
    shipper.write([*others, first, json.dumps({"log": f"{second}\n", "stream": "stdout", "time": "2026-01-01"})])
    with listening(shipper.endpoint), shipper.running():
        taken = wait_for_all("splunk", shipper, [first, second])
    assert [event for _, event in taken] == [json.loads(first), json.loads(second)]


def test_the_longest_line_is_shipped_as_one(tmp_path: Path) -> None:
    longest = write_event("server", {"event": "log", "count": 1, **dict.fromkeys(TEXTS, "\x1b" * 5000)})[0].decode()
    assert len(longest) > MAX_LINE_BYTES * 3 // 4
    shipper = Shipper(tmp_path, "splunk")
    shipper.write([json.dumps({"log": f"{longest}\n"})])
    with shipper.running():
        wait_for(lambda: shipper.buffered_bytes() > len(longest), "it waits on the disk")
        assert shipper.buffered_bytes() < LONGEST_IN_BUFFER_BYTES
        with listening(shipper.endpoint):
            taken = wait_for_all("splunk", shipper, [longest])
    assert [event for _, event in taken] == [json.loads(longest)]


@pytest.mark.parametrize("kind", READERS)
def test_all_that_may_be_on_its_way_has_room_in_the_buffer(kind: str) -> None:
    """Where it has not, syslog-ng drops it."""
    text = (LOGGING / f"{kind}.conf").read_text()
    sizes = {name: int(size) for name, size in re.findall(r"(log-iw-size|mem-buf-size|disk-buf-size)\((\d+)\)", text)}
    assert sizes["log-iw-size"] * LONGEST_IN_BUFFER_BYTES <= sizes["mem-buf-size"] < sizes["disk-buf-size"]


def test_the_index_knows_every_field_of_an_event_and_takes_no_other() -> None:
    mappings = json.loads((LOGGING / "elasticsearch-template.json").read_text())["template"]["mappings"]
    kinds = {name: value["type"] for name, value in mappings["properties"].items()}
    assert kinds.keys() == {*TEXTS, *NUMBERS, MORE, "time", "gate", "event", "cut"}
    assert {name for name, kind in kinds.items() if kind == "double"} == NUMBERS
    assert mappings["dynamic"] is False


def _time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])
