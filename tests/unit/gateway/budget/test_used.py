"""What clients have used of the day: noted from verdicts, written for the launcher, gone with the day."""

from pathlib import Path

import pytest

from garrison.gateway.budget import used
from garrison.gateway.budget.ledger import BUDGET_USED, TOO_MANY_CONCURRENT, Verdict
from garrison.gateway.budget.used import USED_FILE, Used, read_used


def test_the_last_verdict_of_each_client_stands(tmp_path: Path) -> None:
    noted = Used(tmp_path / USED_FILE)
    for client, verdict in (
        ("alice", Verdict(used_ratio=0.25)),
        ("alice", Verdict(used_ratio=0.5)),
        ("alice", Verdict(TOO_MANY_CONCURRENT, 1)),  # says nothing about the day
        ("bob", Verdict(BUDGET_USED, 60, 1.0)),
    ):
        noted.note(client, verdict)
    noted.write()
    assert read_used(tmp_path) == {"alice": 0.5, "bob": 1.0}


def test_a_new_day_begins_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = Used(tmp_path / USED_FILE)
    monkeypatch.setattr(used.time, "time", lambda: 86_399.0)
    noted.note("alice", Verdict(used_ratio=0.5))
    noted.write()
    monkeypatch.setattr(used.time, "time", lambda: 86_400.0)
    noted.write()
    assert read_used(tmp_path) == {}


@pytest.mark.parametrize("text", [None, "", "[]", '{"alice": "much"}', "{"])
def test_a_file_that_is_none_tells_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / USED_FILE).write_text(text)
    assert read_used(tmp_path) == {}
