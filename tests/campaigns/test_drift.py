"""A sample of the campaign about drift; and that it would see a metric that says nothing."""

import json
from pathlib import Path

from campaigns import drift


def test_ordinary_pictures_are_no_drift_and_turned_ones_are(tmp_path: Path) -> None:
    output = tmp_path / "drift.json"
    causes = ["rotated_180", "foreign"]
    status = drift.main(["--requests", "600", "--causes", *causes, "--no-cost", "--output", str(output)])
    result = json.loads(output.read_text())
    assert (status, result["misses"]) == (0, [])
    assert result["figures"]["ordinary"]["readings"] > 5


def test_a_silent_metric_a_false_alarm_and_a_dear_measurement_are_seen() -> None:
    figures = {
        "ordinary": {"readings": 0, "readings_above": 2},
        "causes": {"noisy": {"requests_until_above": 0}},
        "not_ordinary_before": ["noisy"],
        "cost_per_request": {"digits": {"median_us": 51.0}},
    }
    assert len(drift.judge(figures)) == 5
