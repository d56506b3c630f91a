"""How the campaigns `hour` and `alerts` write down what was scraped, and that a replay finds what is in it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.prometheus import align, load, measure_seconds, replay, save, write_values

Values = list[float | None]
ATTEMPTS = 'garrison_gateway_management_attempts_total{instance="gateway", job="garrison-gateway"}'
UP = {'up{instance="gateway", job="garrison-gateway"}': "1x24", 'up{instance="s", job="garrison-server"}': "1x24"}


def read_values(text: str) -> Values:
    """Read promtool's notation as its documentation describes it."""
    values: Values = []
    for run in text.split():
        start, _, count = run.partition("x")
        first, _, rise = start.partition("+")
        for number in range(int(count or 0) + 1):
            values.append(None if first == "_" else float(first) + number * float(rise or 0))
    return values


@given(st.lists(st.one_of(st.none(), st.integers(0, 5).map(float), st.floats(0, 1e12)), min_size=1, max_size=40))
@settings(max_examples=300)
def test_what_is_written_is_what_was_scraped(values: Values) -> None:
    assert read_values(write_values(values)) == values


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([0.0] * 720, "0x719"),
        ([1.0, 3.0, 5.0, 7.0], "1+2x3"),
        ([None, None, 2.0, 2.0, 9.0], "_x1 2x1 9"),
        ([5.0, 0.0, 0.0], "5 0x1"),
    ],
)
def test_an_hour_is_short(values: Values, written: str) -> None:
    assert write_values(values) == written


def test_a_scrape_that_failed_leaves_a_gap() -> None:
    assert align([(101.0, "1"), (111.2, "3")], 100, 116) == [1, None, 3, None]


def test_a_replay_finds_an_alert_at_any_time(tmp_path: Path) -> None:
    save(UP | {ATTEMPTS: "0x11 1x12"}, tmp_path / "recorded")
    recorded = load(tmp_path / "recorded")
    assert measure_seconds(recorded) == 120
    assert replay(recorded) == ["GarrisonManagementAttempt"]
    assert replay(recorded | {ATTEMPTS: "0x24"}) == []
