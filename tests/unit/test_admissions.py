"""What admission decides is counted from the store's log as it grows, and a log that is broken is told and shown."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from garrison.admission.reasons import REASONS
from garrison.audit import AuditLog, AuditTail
from garrison.errors import ArtifactRefused
from garrison.eventlog import EventLog
from garrison.stack.admissions import Admissions
from garrison.watch import families
from garrison.watch.page import write_page

ADMITTED, REFUSALS, WHOLE = families.ADMITTED.name, families.ADMISSION_REFUSALS.name, families.AUDIT_WHOLE.name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log will be."""
    return tmp_path / "audit.jsonl"


def follow(path: Path) -> tuple[Admissions, io.BytesIO]:
    stream = io.BytesIO()
    return Admissions(path, EventLog(stream, None)), stream


def measure(admissions: Admissions) -> dict[Any, float]:
    admissions.look()
    return dict(admissions.measure())


def told(stream: io.BytesIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_decisions_are_counted_as_they_are_made_by_somebody_else(path: Path) -> None:
    AuditLog(path).append({"event": "admitted", "model": "digits"})
    admissions, stream = follow(path)
    assert measure(admissions)[ADMITTED, ()] == 1
    AuditLog(path).append({"event": "refused", "reason": "unsigned"})
    AuditLog(path).append({"event": "refused", "reason": "unsigned"})
    AuditLog(path).append({"event": "admitted", "model": "faces"})
    counts = measure(admissions)
    assert (counts[ADMITTED, ()], counts[REFUSALS, ("unsigned",)], counts[WHOLE, ()]) == (2, 2, 1)
    assert told(stream) == []


def test_every_reason_is_there_before_its_first_time(path: Path) -> None:
    page = write_page(measure(follow(path)[0])).decode()
    assert all(f'{REFUSALS}{{reason="{reason}"}} 0.0' in page for reason in REASONS)


def test_what_somebody_writes_into_the_log_makes_no_new_series(path: Path) -> None:
    for reason in ("made up", {"a": 1}, None, "x" * 10_000):
        AuditLog(path).append({"event": "refused", "reason": reason})
    counts = measure(follow(path)[0])
    assert counts[REFUSALS, (families.OTHER,)] == 4
    assert len(counts) == len(REASONS) + 3


def test_a_line_that_is_being_written_waits(path: Path) -> None:
    AuditLog(path).append({"event": "admitted"})
    AuditLog(path).append({"event": "admitted"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    admissions, stream = follow(path)
    assert measure(admissions)[ADMITTED, ()] == 1
    with path.open("ab") as log:
        log.write(whole[-20:])
    assert measure(admissions)[ADMITTED, ()] == 2
    assert told(stream) == []


def test_a_broken_chain_is_told_once_and_what_was_counted_stands(path: Path) -> None:
    AuditLog(path).append({"event": "admitted"})
    admissions, stream = follow(path)
    measure(admissions)
    with path.open("ab") as log:
        log.write(b'{"event": {"event": "admitted"}}\n')
    for _ in range(3):
        counts = measure(admissions)
    assert (counts[ADMITTED, ()], counts[WHOLE, ()]) == (1, 0)
    assert told(stream) == ["audit_log_broken"]


def test_what_stands_before_a_break_counts(path: Path) -> None:
    """Or whoever can write there hides a refusal by what he writes behind it, before anybody looked."""
    admissions, stream = follow(path)
    AuditLog(path).append({"event": "refused", "reason": "unsigned"})
    with path.open("ab") as log:
        log.write(b"spoilt\n")
    for _ in range(3):
        counts = measure(admissions)
    assert (counts[REFUSALS, ("unsigned",)], counts[WHOLE, ()]) == (1, 0)
    assert told(stream) == ["audit_log_broken"]


@pytest.mark.parametrize(("change", "left"), [("cut", 1), ("replaced", 1), ("removed", 0)])
def test_a_log_that_is_cut_off_replaced_or_removed_is_noticed(path: Path, change: str, left: int) -> None:
    for _ in range(2):
        AuditLog(path).append({"event": "admitted"})
    tail = AuditTail(path)
    assert len(tail.news()) == 2
    first = len(path.read_bytes().splitlines(keepends=True)[0])
    if change == "cut":
        os.truncate(path, first)
    else:
        path.rename(path.with_name("aside"))
    if change == "replaced":
        AuditLog(path).append({"event": "admitted", "model": "another, in a line that is a little longer"})
    with pytest.raises(ArtifactRefused, match="is not the log that it was"):
        tail.news()
    assert len(tail.news()) == left  # what is there now


def test_a_log_that_is_not_there_yet_is_no_fault(path: Path) -> None:
    admissions, stream = follow(path)
    assert measure(admissions)[WHOLE, ()] == 1
    AuditLog(path).append({"event": "admitted"})
    assert measure(admissions)[ADMITTED, ()] == 1
    assert told(stream) == []
