"""Which inputs a worker counts, and what of its counts is believed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from garrison.profile.features import MAX_BINS
from unit.watch.test_counts import ANSWERS, entry, read, scratch, write  # noqa: F401 - scratch is a fixture

INPUTS = "garrison_watch_inputs_total"
REPOSITORY = Path(__file__).resolve().parents[3]
WORKER = """
import sys
from pathlib import Path
import numpy as np
from garrison.contract import load_contract
from garrison.profile import list_features
from garrison.watch.inputs import InputStatistics

contract = load_contract(Path(sys.argv[1]))
watch = InputStatistics(contract, list_features(contract, ("zero", "one")))
for number in range(1000):
    label = ("zero", "one")[number % 2]
    watch.count({"image": np.zeros((32, 32, 1), np.uint8)}, (100, 100), {label: 0.9})
watch.count({"image": "no picture"}, None, None)
watch.count({"image": "no picture"}, None, None)
"""


def test_of_every_two_inputs_one_is_counted_by_chance(scratch):  # noqa: F811
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(scratch / "metrics")}
    command = [sys.executable, "-I", "-c", WORKER, str(REPOSITORY / "models/digits/contract.yaml")]
    ended = subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True, text=True)
    assert ended.stderr.count("could not be measured") == 1
    found = read(scratch, {"labels": 3, "image.width": 8, "image.extent": 4})
    assert found[INPUTS, ("digits", "image.width", "2")] == 500
    labels = [found[INPUTS, ("digits", "labels", str(number))] for number in range(3)]
    assert labels[2] == 0
    assert sum(labels) == 500
    assert min(labels[:2]) > 150, "two kinds in turn are both seen"
    assert found[INPUTS, ("digits", "image.width", "0")] == 0, "every bin is there from the start"
    assert {labels[1] for _, labels in found} == {"labels", "image.width", "image.extent"}


@pytest.mark.parametrize(
    "labels",
    [
        {"model": "digits", "feature": "image.width", "bin": "8"},
        {"model": "digits", "feature": "image.width", "bin": "-1"},
        {"model": "digits", "feature": "image.width", "bin": "01"},
        {"model": "digits", "feature": "image.width", "bin": 1},
        {"model": "digits", "feature": "image.width", "bin": str(MAX_BINS)},
        {"model": "digits", "feature": "made up", "bin": "0"},
        {"model": "digits", "feature": ["image.width"], "bin": "0"},
        {"model": "digits", "feature": "image.width"},
        {"model": "faces", "feature": "image.width", "bin": "0"},
        {"model": "digits", "feature": "image.width", "bin": "0", "pid": "1"},
        {},
    ],
    ids=json.dumps,
)
def test_a_worker_makes_up_no_feature_and_no_bin(scratch, labels):  # noqa: F811
    write(scratch, entry(INPUTS, 7, **labels), entry(ANSWERS, 1, model="digits"))
    assert read(scratch, {"image.width": 8}) == {(ANSWERS, ("digits",)): 1}


def test_a_bin_that_there_is_is_counted(scratch):  # noqa: F811
    write(scratch, entry(INPUTS, 7, model="digits", feature="image.width", bin="7"))
    assert read(scratch, {"image.width": 8}) == {(INPUTS, ("digits", "image.width", "7")): 7}
