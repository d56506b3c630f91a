"""What a worker may count: its own model's, in our metrics, in files that are read at a bounded cost."""

import json
import math
import os
import struct
import subprocess
import sys
from types import MappingProxyType

import pytest

from garrison.errors import Undecided
from garrison.watch import counts
from garrison.watch.counts import Keys, Reader

WORKER = """
from garrison.watch.metrics import ContractMetrics
metrics = ContractMetrics("digits", frozenset({"bad_json"}))
metrics.count_batch(3)
metrics.count_input(3000)
metrics.count_picture(30, 40)
metrics.count_answer()
metrics.count_answer("bad_json")
metrics.count_answer("a word of its own")
with metrics.time_step("infer"):
    pass
"""
ANSWERS = "garrison_contract_answers_total"
REFUSALS = "garrison_contract_refusals_total"


@pytest.fixture
def scratch(tmp_path):
    """A worker's scratch directory."""
    (tmp_path / "metrics").mkdir()
    return tmp_path


def entry(name, value, help_text="", **labels):
    """Write one count as prometheus-client does."""
    return raw_entry(json.dumps([name.removesuffix("_total"), name, labels, help_text]).encode(), value)


def raw_entry(key, value):
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    return struct.pack("=i", len(key)) + padded + struct.pack("=dd", value, 0)


def read(scratch, features=MappingProxyType({})):
    """Return what the worker of digits has counted; `features` has the number of bins of what is measured."""
    return Reader(Keys("digits", features)).read(scratch)


def write(scratch, *entries, name="counter_1.db", size=65536):
    data = b"".join(entries)
    (scratch / "metrics" / name).write_bytes((struct.pack("=ii", 8 + len(data), 0) + data).ljust(size, b"\0"))


def test_what_a_worker_counted_is_read(scratch):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(scratch / "metrics")}
    subprocess.run([sys.executable, "-I", "-c", WORKER], env=environment, check=True, timeout=30)
    found = {series: value for series, value in read(scratch).items() if value}
    seconds = found.pop(("garrison_contract_step_seconds_sum", ("digits", "infer")))
    assert 0 < seconds < 1
    assert found == {
        (ANSWERS, ("digits",)): 1,
        ("garrison_contract_refusals_total", ("digits", "bad_json")): 1,
        ("garrison_contract_refusals_total", ("digits", "other")): 1,
        ("garrison_contract_input_bytes_sum", ("digits",)): 3000,
        ("garrison_contract_input_bytes_bucket", ("digits", "4096.0")): 1,
        ("garrison_contract_input_pixels_sum", ("digits",)): 1200,
        ("garrison_contract_input_pixels_bucket", ("digits", "4096.0")): 1,
        ("garrison_contract_batch_items_sum", ("digits",)): 3,
        ("garrison_contract_batch_items_bucket", ("digits", "4.0")): 1,
        ("garrison_contract_step_seconds_bucket", ("digits", "infer", "0.001")): 1,
    }


def test_files_of_several_processes_are_added_up(scratch):
    write(scratch, entry(ANSWERS, 2, model="digits"))
    write(scratch, entry(ANSWERS, 3, model="digits"), name="counter_2.db")
    assert read(scratch) == {(ANSWERS, ("digits",)): 5}


@pytest.mark.parametrize("content", [b"", bytes(65536)], ids=["no byte yet", "no length yet"])
def test_a_file_that_was_just_made_is_empty(scratch, content):
    (scratch / "metrics" / "counter_1.db").write_bytes(content)
    assert read(scratch) == {}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        (ANSWERS, {"model": "faces"}),
        (ANSWERS, {"model": "Digits"}),
        (ANSWERS, {}),
        (ANSWERS, {"model": "digits", "pid": "1"}),
        (ANSWERS, {"model": ["digits"]}),
        ("garrison_contract_refusals_total", {"model": "digits", "reason": "a word of its own"}),
        ("garrison_contract_refusals_total", {"model": "digits", "reason": {}}),
        ("garrison_contract_refusals_total", {"model": "digits"}),
        ("garrison_contract_step_seconds_sum", {"model": "digits", "step": "rest"}),
        ("garrison_contract_input_bytes_bucket", {"model": "digits", "le": "3.0"}),
        ("garrison_contract_input_bytes_bucket", {"model": "digits"}),
        ("garrison_contract_input_bytes_count", {"model": "digits"}),
        ("garrison_cell_held", {"model": "digits", "part": "seccomp"}),
        ("garrison_cell_violations_total", {"model": "digits", "syscall": "read", "stage": "serving"}),
        ("handlers_own_total", {"model": "digits"}),
        ("", {"model": "digits"}),
    ],
    ids=str,
)
def test_what_is_not_ours_is_left_out_and_the_rest_is_read(scratch, name, labels):
    write(scratch, entry(name, 7, **labels), entry(ANSWERS, 1, model="digits"))
    assert read(scratch) == {(ANSWERS, ("digits",)): 1}


@pytest.mark.parametrize("key", [b"[]", b"{}", b"1", b"[1, 2, 3, 4]", b'["a", "b", [], "c"]', b'["a", {}, {}, ""]'])
def test_a_key_of_another_form_is_left_out(scratch, key):
    write(scratch, raw_entry(key, 1), entry(ANSWERS, 1, model="digits"))
    assert read(scratch) == {(ANSWERS, ("digits",)): 1}


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, 2.0**54])
def test_a_value_that_is_no_count_spoils_the_files(scratch, value):
    write(scratch, entry(ANSWERS, value, model="digits"))
    with pytest.raises(Undecided, match="no count"):
        read(scratch)


def write_garbage(path):
    path.write_bytes(b"\x7f" * 4096)


def write_text_in_place_of_a_key(path):
    path.write_bytes(struct.pack("=iii", 64, 0, 40) + b"[" * 44 + bytes(16))


def write_deeply_nested_key(path):
    write(path.parent.parent, raw_entry(b"[" * 1024, 1))


def write_key_that_is_not_utf_8(path):
    write(path.parent.parent, raw_entry(b'["\xff"]', 1))


def write_negative_length(path):
    path.write_bytes(struct.pack("=iiiii", 64, 0, -28, 0, 0) + bytes(4096))


def write_length_of_nothing(path):
    path.write_bytes(struct.pack("=iii", 64, 0, 0) + bytes(4096))


def write_half_a_length(path):
    path.write_bytes(struct.pack("=ii", 10, 0) + bytes(4096))


def write_value_beyond_the_end(path):
    path.write_bytes(struct.pack("=iii", 24, 0, 8) + bytes(4096))


def write_size_without_end(path):
    """A few bytes that say they are two gigabytes, and are, without taking room on the disk."""
    path.write_bytes(struct.pack("=i", 2**31 - 1) + bytes(4))
    os.truncate(path, 2**31)


def write_long_key(path):
    write(path.parent.parent, raw_entry(b" " * 1025, 1))


def write_too_many_counts(path):
    write(path.parent.parent, *[raw_entry(b"1", 0)] * 4001, size=2**18)


def write_too_many_files(path):
    for number in range(17):
        write(path.parent.parent, name=f"counter_{number + 1}.db")


@pytest.mark.parametrize(
    "make",
    [
        write_garbage,
        write_text_in_place_of_a_key,
        write_deeply_nested_key,
        write_key_that_is_not_utf_8,
        write_negative_length,
        write_length_of_nothing,
        write_half_a_length,
        write_value_beyond_the_end,
        write_size_without_end,
        write_long_key,
        write_too_many_counts,
        write_too_many_files,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.mkdir(),
    ],
)
def test_what_no_worker_of_ours_writes_is_not_read(scratch, make):
    make(scratch / "metrics" / "counter_1.db")
    with pytest.raises(Undecided):
        read(scratch)


def test_counts_up_to_the_bounds_are_read(scratch):
    for number in range(16):
        write(scratch, *[raw_entry(b"1", 0)] * 250, name=f"counter_{number}.db", size=2**20)
    assert read(scratch) == {}
    assert counts.MAX_ENTRIES == 16 * 250


@pytest.mark.parametrize(
    "replace", [lambda path: path.symlink_to("elsewhere"), lambda _: None, lambda path: path.touch()]
)
def test_a_directory_that_is_none_any_more_is_not_read(scratch, replace):
    (scratch / "metrics").rename(scratch / "elsewhere")
    replace(scratch / "metrics")
    with pytest.raises(Undecided):
        read(scratch)


def test_what_is_read_again_is_what_stands_there_then(scratch):
    reader = Reader(Keys("digits"))
    write(scratch, entry(ANSWERS, 1, model="digits"))
    assert reader.read(scratch) == {(ANSWERS, ("digits",)): 1}
    assert reader.read(scratch) is None
    write(scratch, entry(ANSWERS, 2, model="digits"))
    assert reader.read(scratch) == {(ANSWERS, ("digits",)): 2}
    write(scratch, entry(ANSWERS, 2, model="digits"), entry(REFUSALS, 3, model="digits", reason="bad_json"))
    assert reader.read(scratch) == {(ANSWERS, ("digits",)): 2, (REFUSALS, ("digits", "bad_json")): 3}
    write(scratch, entry(ANSWERS, 5, model="digits"), name="counter_0.db")
    assert reader.read(scratch) == {(ANSWERS, ("digits",)): 7, (REFUSALS, ("digits", "bad_json")): 3}


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 2.0**54])
def test_a_value_that_turns_bad_is_seen_where_the_keys_are_known(scratch, value):
    reader = Reader(Keys("digits"))
    write(scratch, entry(ANSWERS, 1, model="digits"))
    reader.read(scratch)
    write(scratch, entry(ANSWERS, value, model="digits"))
    with pytest.raises(Undecided):
        reader.read(scratch)


def test_keys_that_were_exchanged_are_still_only_this_models(scratch):
    """The length is the same, so nobody looks; what is counted stays a count of the same model."""
    reader = Reader(Keys("digits"))
    write(scratch, entry(ANSWERS, 1, model="digits"))
    reader.read(scratch)
    write(scratch, entry(ANSWERS, 9, model="scenes"))
    assert reader.read(scratch) == {(ANSWERS, ("digits",)): 9}
