"""The audit log: an unbroken chain, whatever is done to the file, by power cuts or by people."""

import json
import multiprocessing
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from garrison.audit import MAX_LINE_BYTES, START, AuditLog, read_log, verify_log
from garrison.errors import ArtifactRefused, ConfigError, Undecided

EVENTS = [{"event": "admitted", "model": "digits", "version": str(number)} for number in range(1, 6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of five events."""
    log = AuditLog(tmp_path / "audit.jsonl")
    for event in EVENTS:
        log.append(event)
    return tmp_path / "audit.jsonl"


def broken_at(path: Path) -> int:
    with pytest.raises(ArtifactRefused) as caught:
        verify_log(path)
    assert caught.value.reason == "log_broken"
    return int(caught.value.detail.split("line ")[1].split(":")[0])


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


# A whole log ----------------------------------------------------------------------------------------------------------


def test_what_was_appended_is_read_back(path):
    assert list(AuditLog(path).events()) == EVENTS
    summary = verify_log(path)
    assert (summary.entries, summary.torn) == (5, 0)
    assert summary.first_time <= summary.last_time
    assert summary.head == json.loads(lines(path)[-1])["hash"]


def test_every_line_is_chained_to_the_one_before(path):
    entries = list(read_log(path))
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries] == [START, *(entry.hash for entry in entries[:-1])]


def test_where_there_is_no_log_there_is_no_event(tmp_path):
    assert list(AuditLog(tmp_path / "none.jsonl").events()) == []
    with pytest.raises(ConfigError, match="cannot be read"):
        verify_log(tmp_path / "none.jsonl")


def test_an_empty_log_is_whole(tmp_path):
    (tmp_path / "audit.jsonl").touch()
    assert (verify_log(tmp_path / "audit.jsonl").entries, verify_log(tmp_path / "audit.jsonl").head) == (0, START)
    AuditLog(tmp_path / "audit.jsonl").append(EVENTS[0])
    assert verify_log(tmp_path / "audit.jsonl").entries == 1


def test_only_its_owner_reads_a_new_log(path):
    assert path.stat().st_mode & 0o777 == 0o600


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.text(max_size=40) | st.integers() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_event_comes_back_as_it_was(path, event):
    AuditLog(path).append(event)
    assert list(read_log(path))[-1].event == event


@pytest.mark.parametrize(
    "event", [{"at": object()}, {"at": float("nan")}, {1: "a"}, {"at": (1, 2)}], ids=["object", "nan", "key", "tuple"]
)
def test_what_json_would_not_keep_is_not_written(path, event):
    before = path.read_bytes()
    with pytest.raises(Undecided):
        AuditLog(path).append(event)
    assert path.read_bytes() == before


def test_a_line_has_a_largest_size(path):
    AuditLog(path).append({"text": "x" * (MAX_LINE_BYTES - 400)})
    with pytest.raises(Undecided, match="too large"):
        AuditLog(path).append({"text": "x" * MAX_LINE_BYTES})
    assert verify_log(path).entries == 6


# Changed by people ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_any_flipped_bit_breaks_the_chain(path, seed):
    whole = path.read_bytes()
    chosen = random.Random(seed)
    for bit in chosen.sample(range((len(whole) - 1) * 8), 40):  # the very last byte is below
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert broken_at(path) <= 5
        with pytest.raises(Undecided, match="move the log aside"):
            AuditLog(path).append(EVENTS[0])
        assert path.read_bytes() == changed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda rows: rows[1:], 1),
        (lambda rows: rows[:2] + rows[3:], 3),
        (lambda rows: [rows[1], rows[0], *rows[2:]], 1),
        (lambda rows: rows[:2] + rows[1:], 3),
        (lambda rows: [*rows[:2], b"\n", *rows[2:]], 3),
        (lambda rows: [*rows[:2], b"hello\n", *rows[2:]], 3),
        (lambda rows: [*rows, b"hello\n"], 6),
        (lambda rows: [*rows, b"\n"], 6),
        (lambda rows: [*rows[:2], rows[2].replace(b'":', b'": ', 1), *rows[3:]], 3),
        (lambda rows: [*rows[:2], rows[2].replace(b"digits", b"digitz"), *rows[3:]], 3),
        (lambda rows: [*rows[:2], b"x" * 2**20, *rows[2:]], 3),
    ],
    ids=[
        *("the first removed", "one removed", "two exchanged", "one repeated", "an empty one", "a foreign one"),
        *("a foreign one at the end", "an empty one at the end", "a space", "another model", "one without end"),
    ],
)
def test_a_changed_log_is_broken_where_it_was_changed(path, change, line):
    path.write_bytes(b"".join(change(lines(path))))
    assert broken_at(path) == line


def test_a_line_with_its_own_hash_made_good_breaks_the_next(path):
    """Whoever changes a line can hash it anew, and has then to hash all that follow."""
    from garrison.audit import Entry

    rows = lines(path)
    values = json.loads(rows[2])
    values.pop("hash")
    rows[2] = Entry(**{**values, "event": {"event": "admitted", "model": "evil"}}).render() + b"\n"
    path.write_bytes(b"".join(rows))
    assert broken_at(path) == 4


def test_what_was_read_before_the_break_is_good(path):
    rows = lines(path)
    path.write_bytes(b"".join([*rows[:3], b"{}\n", *rows[4:]]))
    events = AuditLog(path).events()
    assert [next(events) for _ in range(3)] == EVENTS[:3]
    with pytest.raises(ArtifactRefused, match="line 4"):
        next(events)


def test_a_cut_off_end_is_noticed_by_a_hash_kept_elsewhere(path):
    head = verify_log(path).head
    path.write_bytes(b"".join(lines(path)[:-1]))
    assert verify_log(path).entries == 4  # nothing in the file tells
    with pytest.raises(ArtifactRefused, match="cut off"):
        verify_log(path, head)


def test_a_hash_that_was_noted_earlier_is_still_in_the_log(path):
    head = verify_log(path).head
    AuditLog(path).append(EVENTS[0])
    assert verify_log(path, head).entries == 6


@pytest.mark.parametrize("head", ["", "abc", "g" * 64, "A" * 64])
def test_a_hash_is_64_digits(path, head):
    with pytest.raises(ConfigError, match="is not a hash"):
        verify_log(path, head)


def test_a_log_that_is_a_link_or_a_pipe_is_neither_read_nor_written(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "link", tmp_path / "pipe"):
        with pytest.raises(ConfigError):
            verify_log(other)
        with pytest.raises(Undecided):
            AuditLog(other).append(EVENTS[0])


# Cut by a power failure -----------------------------------------------------------------------------------------------


def test_a_line_cut_anywhere_is_closed_off_by_the_next(path):
    whole = path.read_bytes()
    start = len(b"".join(lines(path)[:-1]))
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        complete = cut == len(whole) - 1  # only its end is missing: nothing is lost
        assert (verify_log(path).entries, verify_log(path).torn) == ((5, 0) if complete else (4, 1))
        AuditLog(path).append({"event": "next"})
        assert (verify_log(path).entries, verify_log(path).torn) == ((6, 0) if complete else (5, 1))
        assert path.read_bytes().startswith(whole[:cut])  # nothing is ever taken out
        assert list(AuditLog(path).events())[-1] == {"event": "next"}


def test_two_power_cuts_in_a_row(path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    AuditLog(path).append({"event": "next"})
    path.write_bytes(path.read_bytes()[:-30])
    AuditLog(path).append({"event": "last"})
    assert (verify_log(path).entries, verify_log(path).torn) == (5, 1)
    AuditLog(path).append({"event": "more"})
    assert verify_log(path).entries == 6


def test_what_was_half_written_cannot_be_changed_later(path):
    path.write_bytes(path.read_bytes()[:-30])
    AuditLog(path).append({"event": "next"})
    rows = lines(path)
    rows[4] = rows[4].replace(b"digits", b"digitz")
    path.write_bytes(b"".join(rows))
    assert broken_at(path) == 5


def test_zeroes_that_a_file_system_leaves_are_half_written_too(path):
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert verify_log(path).torn == 1
    AuditLog(path).append({"event": "next"})
    assert (verify_log(path).entries, verify_log(path).torn) == (6, 1)


# Many writers ---------------------------------------------------------------------------------------------------------


def _append(path: Path, count: int) -> None:
    log = AuditLog(path)
    for number in range(count):
        log.append({"process": os.getpid(), "number": number})


def test_processes_and_threads_append_to_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    processes = [multiprocessing.get_context("spawn").Process(target=_append, args=(path, 20)) for _ in range(3)]
    threads = [threading.Thread(target=_append, args=(path, 20)) for _ in range(2)]
    for one in (*processes, *threads):
        one.start()
    for one in (*processes, *threads):
        one.join()
    assert verify_log(path).entries == 100


def test_a_log_that_was_replaced_is_checked_anew(path, tmp_path):
    log = AuditLog(path)
    log.append({"event": "known"})
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes().replace(b"digits", b"digitz"))
    other.replace(path)
    with pytest.raises(Undecided):
        log.append({"event": "more"})


def test_a_full_disk_is_undecided(path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = AuditLog(path)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Undecided, match="No space left"):
        log.append({"event": "more"})
