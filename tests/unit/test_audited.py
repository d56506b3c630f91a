"""A gateway's configurations are told and written down; what cannot be written down is said, each time."""

import io
import json
from pathlib import Path

from garrison.audit import read_log, verify_log
from garrison.eventlog import EventLog, OnceLog
from garrison.stack.audited import MOST_CHARACTERS, AuditedLog


def make(path: Path | None) -> tuple[AuditedLog, io.BytesIO]:
    stream = io.BytesIO()
    return AuditedLog(EventLog(stream, None), path), stream


def told(stream: io.BytesIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_what_is_told_is_written_down_once_even_if_it_is_met_again(tmp_path: Path) -> None:
    log, stream = make(tmp_path / "audit.jsonl")
    once = OnceLog(log)
    for _ in range(2):
        once.tell("configuration_refused", "gateway.yaml: colour: unknown")
    log.tell("configuration_reloaded", "in force")
    log.append("configuration_begun", "x" * 100_000)
    entries = list(read_log(tmp_path / "audit.jsonl"))
    assert [entry.event["event"] for entry in entries] == [
        "configuration_refused", "configuration_reloaded", "configuration_begun",
    ]  # fmt: skip
    assert len(entries[2].event["message"]) == MOST_CHARACTERS
    assert told(stream) == ["configuration_refused", "configuration_reloaded"]
    assert verify_log(tmp_path / "audit.jsonl").entries == 3


def test_a_log_that_cannot_be_written_is_said_each_time(tmp_path: Path) -> None:
    log, stream = make(tmp_path / "missing" / "audit.jsonl")
    for _ in range(2):
        log.tell("configuration_reloaded", "in force")
    assert told(stream) == ["configuration_reloaded", "audit_failed"] * 2


def test_without_a_place_it_is_only_told() -> None:
    log, stream = make(None)
    log.tell("configuration_reloaded", "in force")
    assert told(stream) == ["configuration_reloaded"]
