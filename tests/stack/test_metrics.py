"""What Prometheus is told: exact counts by model and reason, histograms, and a bounded number of series.

The counts are written by workers, whose code is not trusted, into files that the launcher reads: what a worker does to
its own files costs no other model a count.
"""

import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from garrison.record import RECORD_FILE, SIGNATURE_FILE
from stack.conftest import SERVED
from stack.observing import wait_for
from stack.running import RunningStack, send_together
from stack.test_tasks import as_body, find_samples, make_npy

Series = tuple[str, frozenset[tuple[str, str]]]
REASONS_AT_MOST = 60
VERIFICATION = "garrison_admission_verification_seconds"


def read_metrics(stack: RunningStack) -> dict[Series, float]:
    """Return every sample: (name, labels) to value."""
    status, text = stack.ask_metrics()
    assert status == 200, text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series(name: str, **labels: str) -> Series:
    return f"garrison_contract_{name}", frozenset(labels.items())


def count_pixels(file: Path) -> int:
    with Image.open(file) as image:
        return image.width * image.height


class Difference:
    """What was counted since this was made."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack, self._before = stack, read_metrics(stack)

    def rise(self, name: str, **labels: str) -> float:
        key = series(name, **labels)
        return read_metrics(self._stack).get(key, 0) - self._before.get(key, 0)


@pytest.fixture
def counted(library: RunningStack) -> Difference:
    return Difference(library)


def test_counts_by_model_and_reason_are_what_was_sent(library: RunningStack, counted: Difference) -> None:
    sent = [(model, as_body(model)) for model in SERVED for _ in range(7)]
    sent += [("digits", b"\x89PNG\r\n\x1a\n")] * 5 + [("tumours", b'{"data": {}}')] * 4 + [("languages", b"\xff")] * 3
    sent += [("moody", b"raise")] * 2 + [("moody", b"nan"), ("moody", b"large 20000")]
    send_together(library.target, sent)
    assert {model: counted.rise("answers_total", model=model) for model in SERVED} == dict.fromkeys(SERVED, 7)
    refused = {
        ("digits", "broken_image"): 5,
        ("tumours", "missing_column"): 4,
        ("languages", "bad_utf8"): 3,
        ("moody", "model_failed"): 3,
        ("moody", "answer_too_large"): 1,
        ("moody", "broken_image"): 0,
        ("digits", "model_failed"): 0,
    }
    assert {
        (model, reason): counted.rise("refusals_total", model=model, reason=reason) for model, reason in refused
    } == refused


def test_a_request_that_the_gateway_refuses_reaches_no_count(library: RunningStack, counted: Difference) -> None:
    library.target.send(body=as_body("digits"), key="expired")
    library.target.send(body=as_body("digits"), headers={"content-encoding": "gzip"})
    assert counted.rise("input_bytes_count", model="digits") == 0


def test_histograms_of_bytes_pixels_items_and_steps_are_there(library: RunningStack, counted: Difference) -> None:
    samples = find_samples("scenes")
    bodies = [sample.read_bytes() for sample in samples]
    send_together(library.target, [("scenes", body) for body in bodies])
    assert counted.rise("input_bytes_count", model="scenes") == len(bodies)
    assert counted.rise("input_bytes_sum", model="scenes") == sum(map(len, bodies))
    pixels = [count_pixels(sample) for sample in samples]
    assert counted.rise("input_pixels_sum", model="scenes") == sum(pixels)
    for bound in (16_384, 65_536, 262_144):
        smaller = sum(count <= bound for count in pixels)
        assert counted.rise("input_pixels_bucket", model="scenes", le=str(float(bound))) == smaller
    assert counted.rise("batch_items_sum", model="scenes") == len(bodies)
    batches = counted.rise("batch_items_count", model="scenes")
    assert 1 <= batches <= len(bodies)
    for step in ("admit", "infer", "present"):
        assert counted.rise("step_seconds_count", model="scenes", step=step) >= batches
        assert counted.rise("step_seconds_sum", model="scenes", step=step) > 0


def test_a_handlers_thousand_reasons_are_one_series(library: RunningStack, counted: Difference) -> None:
    send_together(library.target, [("moody", f"refuse reason_{number}".encode()) for number in range(1000)])
    assert counted.rise("refusals_total", model="moody", reason="other") == 1000
    labels = [dict(labels) for name, labels in read_metrics(library) if name.startswith("garrison_contract_")]
    assert len({one["reason"] for one in labels if "reason" in one}) < REASONS_AT_MOST
    assert {one["model"] for one in labels if "model" in one} <= set(SERVED)
    assert not any("reason_" in value for one in labels for value in one.values())


def test_counts_outlive_the_worker_that_counted(library: RunningStack, counted: Difference) -> None:
    ask = lambda: library.target.send(path="/predictions/sums", body=make_npy([[1, 2, 3]])).status  # noqa: E731
    assert ask() == 200
    (pid,) = library.worker_pids("sums")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: bool(set(library.worker_pids("sums")) - {pid}), "sums has a worker again")
    assert ask() == 200
    assert counted.rise("answers_total", model="sums") == 2


# Files that no worker of ours wrote -----------------------------------------------------------------------------------


def write_garbage(path: Path) -> None:
    path.write_bytes(os.urandom(4096))


def write_text_in_place_of_a_key(path: Path) -> None:
    path.write_bytes(struct.pack("=ii", 64, 0) + struct.pack("=i", 40) + b"[" * 44 + bytes(16))


def write_negative_length(path: Path) -> None:
    path.write_bytes(struct.pack("=iiiii", 64, 0, -28, 0, 0) + bytes(4096))


def write_more_than_is_read(path: Path) -> None:
    """A few bytes that say they are 128 MiB, and are, without taking room on the disk; the scratch may hold twice."""
    path.write_bytes(struct.pack("=i", 2**27))
    os.truncate(path, 2**27)


@pytest.mark.parametrize(
    "write",
    [
        write_garbage,
        write_text_in_place_of_a_key,
        write_negative_length,
        write_more_than_is_read,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.mkdir(),
    ],
    ids=["garbage", "broken key", "negative length", "too large", "pipe", "link to /dev/zero", "directory"],
)
def test_a_file_that_cannot_be_read_costs_nobody_a_count(library: RunningStack, write: Callable[[Path], None]) -> None:
    assert library.target.send(body=as_body("digits")).status == 200
    before = read_metrics(library)
    told = count_events(library, "metrics_failed")
    (scratch,) = (library.run_directory / "tmp" / "workers").glob("digits.*")
    file = scratch / "metrics" / "counter_1.db"
    write(file)
    try:
        memory = psutil.Process(library.pid).memory_info().rss
        found = read_metrics(library)
        assert psutil.Process(library.pid).memory_info().rss - memory < 50e6
        assert {name: found[name] for name in before if name[0].startswith("garrison_contract_")} == {
            name: value for name, value in before.items() if name[0].startswith("garrison_contract_")
        }
        assert [found[unreadable(model)] for model in ("digits", "languages")] == [1, 0]
        wait_for(lambda: count_events(library, "metrics_failed") == told + 1, "the log says so, once")
    finally:
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
    assert read_metrics(library)[unreadable("digits")] == 0
    assert library.target.send(body=as_body("digits")).status == 200


def unreadable(model: str) -> Series:
    return "garrison_watch_unreadable_workers", frozenset({("model", model)})


def count_events(stack: RunningStack, name: str) -> int:
    return sum(event["event"] == name for event in stack.events())


def test_what_admission_decides_meanwhile_is_counted(library: RunningStack, tmp_path: Path) -> None:
    refusals = ("garrison_admission_refusals_total", frozenset({("reason", "unsigned")}))
    before = read_metrics(library)
    seconds = {dict(labels)["model"]: value for (name, labels), value in before.items() if name == VERIFICATION}
    assert before["garrison_admission_admitted_total", frozenset()] == len(SERVED)
    assert seconds.keys() == {*SERVED} and min(seconds.values()) > 0
    packed = tmp_path / "digits"
    shutil.copytree(library.state / "store" / "digits", tmp_path / "copy")
    shutil.copytree(next((tmp_path / "copy").iterdir()), packed)
    packed.chmod(0o755)
    for name in (SIGNATURE_FILE, RECORD_FILE):
        (packed / name).unlink()
    places = ("--state", library.state, "--trust", library.config / "trust")
    command = [sys.executable, "-m", "garrison.cli", "admit", str(packed), *map(str, places)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    wait_for(lambda: read_metrics(library)[refusals] == before[refusals] + 1, "the refusal is counted")
    assert read_metrics(library)["garrison_admission_audit_log_whole", frozenset()] == 1
