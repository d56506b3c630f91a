"""A sample of the campaign that changes everything while clients ask; and that it would see a request that fails."""

import json
import time
from pathlib import Path

from campaigns import rotation
from campaigns.rotation import Callers, Operator, find_misses
from campaigns.sites import RecordedSite


def test_no_request_fails_whatever_is_changed(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    status = rotation.main(["--recorded", "--seconds", "10", "--output", str(output)])
    result = json.loads(output.read_text())
    assert (status, result["misses"]) == (0, [])
    assert min(result["figures"]["answered"].values()) > 20
    assert result["figures"]["events"]["configuration_refused"] == 1


def test_a_moment_without_keys_and_a_gateway_that_is_gone_are_seen(tmp_path: Path) -> None:
    with RecordedSite.opened(tmp_path) as site:
        operator = Operator(site)
        callers = Callers(operator)
        good = operator.token
        time.sleep(0.5)
        operator.token = "none"
        time.sleep(0.2)
        operator.token = good
        time.sleep(0.5)
    callers.stop()  # it was answered until the gateway went
    figures = {"in_force_after_s": {"a change": 9.0}, **callers.figures()}
    misses = find_misses(figures)
    assert "status 401" in str(figures["failures"])
    assert min(figures["failed"].values()) > 0 and min(figures["answered"].values()) > 0
    assert any("connections were closed" in miss for miss in misses)
    assert "a change: in force only after 9.0 s" in misses
