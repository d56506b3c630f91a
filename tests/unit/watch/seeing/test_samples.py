"""What happened between two moments: counters that rose, fell, or were not there before."""

import math
import time

import pytest

from garrison.watch.seeing.asking import Site
from garrison.watch.seeing.prometheus import Prometheus
from garrison.watch.seeing.samples import Change, Sample, Samples, find_quantile


def samples(time_s: float, *values: tuple[str, float], target: str = "gateway") -> Samples:
    return Samples(time_s, tuple(Sample("c_total", {"reason": reason}, value, target) for reason, value in values))


@pytest.mark.parametrize(
    ("before", "now", "rise"),
    [
        pytest.param(samples(0, ("a", 5)), samples(10, ("a", 7)), {("a",): 2}, id="rose"),
        pytest.param(samples(0, ("a", 5)), samples(10, ("a", 5)), {("a",): 0}, id="stayed"),
        pytest.param(samples(0, ("a", 5)), samples(10, ("a", 3)), {("a",): 3}, id="started anew"),
        pytest.param(samples(0, ("a", 5)), samples(10, ("b", 3)), {("b",): 3}, id="new, of a known target"),
        pytest.param(samples(0), samples(10, ("a", 3)), {}, id="of a target that nobody knew"),
        pytest.param(samples(0, ("a", 1)), samples(10, ("a", math.nan)), {}, id="not a number"),
    ],
)
def test_a_counters_rise(before: Samples, now: Samples, rise: dict[tuple[str, ...], float]) -> None:
    assert Change(before, now).rise("c_total", "reason") == rise


def test_two_targets_are_added_up_and_kept_apart() -> None:
    before, one = samples(0, ("a", 5)), samples(10, ("a", 7))
    other = samples(10, ("a", 1), target="other")
    change = Change(before, Samples(10, (*one.listed, *other.listed)))
    assert change.rise("c_total", "reason") == {("a",): 2}  # what the other had before is not known
    assert change.total("c_total", "reason") == {("a",): 8}
    assert change.most("c_total", "reason") == {("a",): 7}
    assert change.least("c_total", "reason") == {("a",): 1}


@pytest.mark.parametrize(
    ("buckets", "share", "quantile"),
    [
        ([(1, 0), (2, 10), (math.inf, 10)], 0.5, 1.5),
        ([(1, 10), (math.inf, 10)], 0.1, 0.1),
        ([(1, 5), (math.inf, 10)], 0.99, 1),  # beyond the last bound nobody knows: the bound itself
        ([(1, 0), (math.inf, 0)], 0.5, math.nan),
        ([], 0.5, math.nan),
    ],
)
def test_a_quantile(buckets: list[tuple[float, float]], share: float, quantile: float) -> None:
    assert find_quantile(buckets, share) == pytest.approx(quantile, nan_ok=True)


def test_quantiles_are_those_of_prometheus(day: Site) -> None:
    prometheus, now_s = Prometheus(day), time.time()
    name = "garrison_contract_step_seconds"
    change = Change(prometheus.read([f"{name}_bucket"], now_s - 600), prometheus.read([f"{name}_bucket"], now_s))
    expression = f"histogram_quantile(0.95, sum by (model, le) (increase({name}_bucket[10m])))"
    told = {one.labels["model"]: one.value for one in prometheus.ask(expression, now_s)}
    found = {model: quantiles[0] for model, quantiles in change.quantiles(name, "model", [0.95]).items()}
    assert found == pytest.approx(told, rel=0.05)
    assert found
