"""`garrison audit verify` checks every chained log that is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from garrison.audit import AuditLog
from garrison.cli import main
from garrison.errors import EXIT_CONFIG, EXIT_OK, EXIT_REFUSED


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A directory with the three logs."""
    for place in ("store", "keys", "."):
        (tmp_path / place).mkdir(exist_ok=True)
        AuditLog(tmp_path / place / "audit.jsonl").append({"event": place})
    return tmp_path


def verify(capsys: Any, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    status = main(["audit", "verify", "--json", *map(str, arguments)])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_all_three_are_checked_and_named(capsys: Any, state: Path) -> None:
    status, rows = verify(capsys, "--state", state)
    assert status == EXIT_OK
    assert [Path(row["log"]).relative_to(state).parent.name for row in rows] == ["store", "keys", ""]
    assert [row["entries"] for row in rows] == [1, 1, 1]


@pytest.mark.parametrize("place", ["store", "keys", "."])
def test_one_that_is_broken_is_enough(capsys: Any, state: Path, place: str) -> None:
    path = state / place / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"sequence":1', b'"sequence":2'))
    assert verify(capsys, "--state", state)[0] == EXIT_REFUSED


def test_each_head_has_to_be_in_one_of_them(capsys: Any, state: Path) -> None:
    heads = [row["head"] for row in verify(capsys, "--state", state)[1]]
    options = [option for head in heads for option in ("--head", head)]
    assert verify(capsys, "--state", state, *options)[0] == EXIT_OK
    (state / "keys/audit.jsonl").unlink()
    assert verify(capsys, "--state", state)[0] == EXIT_OK
    assert verify(capsys, "--state", state, *options)[0] == EXIT_REFUSED
    assert verify(capsys, "--state", state, "--head", "none")[0] == EXIT_CONFIG


def test_a_log_elsewhere_is_checked_alone(capsys: Any, state: Path) -> None:
    status, (row,) = verify(capsys, "--state", state, "--file", state / "keys/audit.jsonl")
    assert (status, row["log"]) == (EXIT_OK, str(state / "keys/audit.jsonl"))


def test_where_there_is_none_that_of_the_store_is_missed(capsys: Any, tmp_path: Path) -> None:
    assert main(["audit", "verify", "--state", str(tmp_path)]) == EXIT_CONFIG
    assert str(tmp_path / "store/audit.jsonl") in capsys.readouterr().err
