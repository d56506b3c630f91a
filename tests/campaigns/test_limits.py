"""A small sample of the campaign on limits, with the whole of its aims but the long time and the large crowd."""

import json
from pathlib import Path

from campaigns import limits


def test_limits_are_exact_and_a_crowd_refills_none(tmp_path: Path) -> None:
    output = tmp_path / "limits.json"
    assert limits.main(["--clients", "120", "--steady", "6", "--seconds", "2", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["misses"] == []
    assert result["figures"]["clients"] == 120
