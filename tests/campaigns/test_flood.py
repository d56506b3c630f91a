"""A sample of the flood campaign: what is asserted is what holds on any machine; throughput is the campaign's."""

import json
from pathlib import Path

from campaigns import flood


def test_good_requests_are_answered_and_bombs_are_not(tmp_path: Path) -> None:
    output = tmp_path / "flood.json"
    flood.main(["--seconds", "3", "--without-stock", "--output", str(output)])
    figures = json.loads(output.read_text())["figures"]
    for name in ("garrison_limited", "garrison_unlimited"):
        row = figures[name]
        assert row["good_during"]["statuses"].keys() == {"200"}
        assert row["attack"]["statuses"]["413"] > 0
        assert "200" not in row["attack"]["statuses"]
        assert row["workers_died"] == 0
