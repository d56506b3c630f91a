"""The intervals of paired measurements: noise that both of a pair share does not widen them."""

import random

import pytest

from campaigns.paired import mean_difference, mean_ratio


def test_equal_pairs_have_a_ratio_of_one_and_no_width() -> None:
    found = mean_ratio([(rate, rate) for rate in (50.0, 100.0, 200.0)], seed=1)
    assert (found.mean, found.low, found.high) == (1, 1, 1)


def test_what_both_of_a_pair_share_does_not_count() -> None:
    chosen = random.Random(1)
    shared = [chosen.uniform(10, 1000) for _ in range(40)]
    found = mean_ratio([(rate, rate * 0.97) for rate in shared], seed=1)
    assert found.low == pytest.approx(0.97) and found.high == pytest.approx(0.97)


def test_the_interval_holds_the_mean_and_shrinks_with_more_pairs() -> None:
    chosen = random.Random(1)
    pairs = [(chosen.gauss(3, 0.2), chosen.gauss(3.1, 0.2)) for _ in range(400)]
    few, many = mean_difference(pairs[:20], seed=1), mean_difference(pairs, seed=1)
    for found in (few, many):
        assert found.low < found.mean < found.high
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.low < 0.1 < many.high


def test_the_same_seed_gives_the_same_interval() -> None:
    pairs = [(1.0, 1.1), (1.0, 0.9), (1.0, 1.3)]
    assert mean_ratio(pairs, seed=7) == mean_ratio(pairs, seed=7)
