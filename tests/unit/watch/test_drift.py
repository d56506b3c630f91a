"""Whether inputs have moved: silent over the same distribution, loud over another, and before enough came, nothing."""

import numpy as np
import pytest

from garrison.profile import Feature, Profile, Reference
from garrison.watch import families
from garrison.watch.drift import DRIFT_THRESHOLD, MIN_SAMPLES, STEP_SAMPLES, Drift, measure_drift

EIGHTHS = tuple(n / 8 for n in range(1, 8))
FEATURE = Feature("image.brightness", edges=EIGHTHS)
PROFILE = Profile("digits", 4000, {FEATURE.name: Reference(FEATURE, (0.125,) * 8)})


class Counted:
    """What workers counted of one feature since the start, and what the watch makes of it."""

    def __init__(self):
        self.drift = Drift("digits", PROFILE)
        self.totals = {}

    def add(self, values):
        for value in values:
            key = (families.INPUTS.name, ("digits", FEATURE.name, str(FEATURE.find_bin(value))))
            self.totals[key] = self.totals.get(key, 0.0) + 1

    def read(self):
        """Return how many inputs are in the window, and the index, or None where nothing is said."""
        told = dict(self.drift.compare(self.totals))
        index = told.get((families.DRIFT.name, ("digits", FEATURE.name)))
        return told[families.DRIFT_SAMPLES.name, ("digits",)], index


@pytest.fixture
def counted():
    return Counted()


def test_the_index_is_that_of_the_formula():
    found = measure_drift([899.5, 99.5], [499.5, 499.5])
    assert found == pytest.approx((0.9 - 0.5) * np.log(0.9 / 0.5) + (0.1 - 0.5) * np.log(0.1 / 0.5))
    assert measure_drift([10, 20], [100, 200]) == pytest.approx(0, abs=1e-3)


def test_nothing_is_said_before_there_is_enough(counted):
    counted.add([0.99] * (MIN_SAMPLES - 1))
    assert counted.read() == (MIN_SAMPLES - 1, None)
    counted.add([0.99])
    samples, index = counted.read()
    assert samples == MIN_SAMPLES
    assert index > DRIFT_THRESHOLD


def test_ten_thousand_inputs_of_the_same_distribution_are_no_drift(counted):
    random = np.random.default_rng(1)
    indices = []
    for _ in range(10_000 // STEP_SAMPLES):
        counted.add(random.random(STEP_SAMPLES))
        indices.append(counted.read()[1])
    assert max(index for index in indices if index is not None) < DRIFT_THRESHOLD


def test_the_window_forgets_what_came_before_it(counted):
    random = np.random.default_rng(1)
    for _ in range(100):
        counted.add(random.random(STEP_SAMPLES))
        counted.read()
    for _ in range(MIN_SAMPLES // STEP_SAMPLES):
        counted.add(random.uniform(0.5, 1, STEP_SAMPLES))
        samples, index = counted.read()
    assert index > 4 * DRIFT_THRESHOLD
    for _ in range(2 * MIN_SAMPLES // STEP_SAMPLES):
        counted.add(random.random(STEP_SAMPLES))
        samples, index = counted.read()
    assert MIN_SAMPLES <= samples < MIN_SAMPLES + 2 * STEP_SAMPLES
    assert index < DRIFT_THRESHOLD


def test_a_feature_that_only_some_inputs_have_is_compared_too():
    """Of pictures without objects nobody measures a label: drift of the others' labels would never be told."""
    objects, labels = Feature("objects", edges=(0.5,)), Feature("labels", values=("cat", "dog"), known=("cat", "dog"))
    references = {"objects": Reference(objects, (0.2, 0.8)), "labels": Reference(labels, (1.0, 0.0, 0.0))}
    drift, told = Drift("street", Profile("street", 4000, references)), {}
    for inputs in range(STEP_SAMPLES, 2000, STEP_SAMPLES):
        seen = {("objects", "0"): inputs * 0.2, ("objects", "1"): inputs * 0.8, ("labels", "1"): inputs * 0.8}
        told = drift.compare({(families.INPUTS.name, ("street", *bin_)): count for bin_, count in seen.items()})
    assert told[families.DRIFT.name, ("street", "labels")] > DRIFT_THRESHOLD
    assert told[families.DRIFT.name, ("street", "objects")] < DRIFT_THRESHOLD


def test_who_asks_seldom_sees_a_longer_window_and_who_asks_twice_the_same(counted):
    counted.add(np.linspace(0, 0.99, 5000))
    assert counted.read()[0] == 5000
    assert counted.read() == counted.read()


def test_a_worker_that_claims_absurd_counts_breaks_nothing(counted):
    counted.totals[families.INPUTS.name, ("digits", FEATURE.name, "0")] = 2.0**53
    assert counted.read()[1] > DRIFT_THRESHOLD
