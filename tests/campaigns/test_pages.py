"""A small sample of the campaign on the pages for Prometheus: all of it but the many models and clients."""

import json
from pathlib import Path

from campaigns import pages


def test_every_page_answers_and_requests_make_no_series(tmp_path: Path) -> None:
    output = tmp_path / "pages.json"
    pages.main(["--models", "3", "--clients", "30", "--questions", "5", "--output", str(output)])
    result = json.loads(output.read_text())
    assert [miss for miss in result["misses"] if "series" in miss] == []
    idle = result["figures"]["idle"]
    assert idle.keys() == set(pages.PAGES)
    assert all(found["series"] > 0 for found in idle.values())
