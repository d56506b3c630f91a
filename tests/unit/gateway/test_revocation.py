"""Keys that are taken back: which ids are believed, what the gateway reads, and when nothing is rendered."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from garrison.errors import ConfigError
from garrison.gateway import keys
from garrison.gateway.ledger import read_issued
from garrison.gateway.revocation import revoke_keys

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a fresh key pair."""
    keys.init_keys(tmp_path / "keys")
    return tmp_path / "keys"


def issue(directory: Path, client: str = "demo", lasts: timedelta = DAY, now: datetime = NOW) -> str:
    return keys.issue_key(directory, client, ["digits:predict"], lasts, now=now).record.key_id


def revoked(directory: Path) -> list[str]:
    return [one.key_id for one in keys.revoked_keys(directory)]


def test_what_was_issued_is_written_down_without_the_key(directory: Path) -> None:
    issued = [keys.issue_key(directory, name, ["digits:predict", "faces:explain"], DAY, now=NOW) for name in "ab"]
    assert read_issued(directory) == tuple(key.record for key in issued)
    text = (directory / "issued.jsonl").read_text()
    assert not any(part in text for key in issued for part in key.token.split("."))
    assert (directory / "issued.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_revoked_key_is_in_the_file_that_the_gateway_reads(directory: Path) -> None:
    first, second = issue(directory), issue(directory)
    (added,) = revoke_keys(directory, [second], reason="found in a log", now=NOW)
    assert (added.key_id, added.client, added.reason, added.revoked_at) == (second, "demo", "found in a log", NOW)
    assert added.expires_at == NOW + DAY
    assert revoked(directory) == [second] and first != second
    assert (directory / "revoked.json").stat().st_mode & 0o777 == 0o644


def test_all_keys_of_a_client_at_once(directory: Path) -> None:
    mine, other = [issue(directory, "demo") for _ in range(3)], issue(directory, "other")
    issue(directory, "demo", now=NOW - 2 * DAY)  # has expired
    assert [one.key_id for one in revoke_keys(directory, [], "demo", now=NOW)] == mine
    assert [one.key_id for one in revoke_keys(directory, [other, mine[0]], now=NOW)] == [other]


def test_a_revocation_stays_for_a_gateway_whose_clock_is_behind(directory: Path) -> None:
    """Who revokes another key, with a clock that runs ahead, must not bring the first one back to life."""
    stolen, expired, other = issue(directory), issue(directory), issue(directory, lasts=3 * DAY)
    revoke_keys(directory, [stolen], now=NOW)
    ahead = NOW + DAY + timedelta(hours=1)
    assert [one.key_id for one in revoke_keys(directory, [other, expired], now=ahead)] == [other, expired]
    assert revoked(directory) == [stolen, other, expired]


def test_a_revocation_goes_a_day_after_its_key_has_expired(directory: Path) -> None:
    brief, long = issue(directory), issue(directory, lasts=3 * DAY)
    revoke_keys(directory, [brief, long], now=NOW)
    later = issue(directory, now=NOW + 2 * DAY)
    revoke_keys(directory, [later], now=NOW + 2 * DAY)
    assert revoked(directory) == [long, later]


@pytest.mark.parametrize(
    ("ids", "client", "said"),
    [
        (["x"], "", "no key's id"),
        (["a" * 31], "", "no key's id"),
        (["../" + "a" * 29], "", "no key's id"),
        (["A" * 32], "", "no key's id"),
        (["a" * 32], "", "holds no key a+; see `garrison keys list --all`, or write --unlisted"),
        ([], "nobody", "holds no key of 'nobody' that is in force"),
        ([], "", "name a key's id, or a --client"),
    ],
    ids=str,
)
def test_what_is_not_known_revokes_nothing(directory: Path, ids: list[str], client: str, said: str) -> None:
    known = issue(directory)
    with pytest.raises(ConfigError, match=said):
        revoke_keys(directory, [*ids, *([known] if ids else [])], client, now=NOW)
    assert revoked(directory) == []


def test_a_key_that_was_issued_elsewhere_can_be_revoked_on_purpose(directory: Path) -> None:
    (added,) = revoke_keys(directory, ["a" * 32], unlisted=True, now=NOW)
    assert added.expires_at == NOW + keys.MAX_LIFETIME  # no key lasts longer
    assert revoked(directory) == ["a" * 32]


def test_a_long_story_is_no_reason(directory: Path) -> None:
    with pytest.raises(ConfigError, match="200 characters"):
        revoke_keys(directory, [issue(directory)], reason="x" * 201, now=NOW)


DAMAGED = ["", "[]", "{}", '{"revoked": [{}]}', '{"revoked": [{"key_id": "x"}]}', '{"revoked": 7}', "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:30])
def test_a_damaged_file_of_revocations_stops_everything(directory: Path, text: str) -> None:
    key_id = issue(directory)
    (directory / "revoked.json").write_text(text)
    for action in (lambda: keys.revoked_keys(directory), lambda: revoke_keys(directory, [key_id], now=NOW)):
        with pytest.raises(ConfigError, match=r"revoked\.json: .* is damaged"):
            action()


def test_a_missing_file_of_revocations_stops_everything(directory: Path) -> None:
    (directory / "revoked.json").unlink()
    with pytest.raises(ConfigError, match=r"revoked\.json: cannot be read"):
        keys.revoked_keys(directory)


def test_one_that_others_can_write_does_too(directory: Path) -> None:
    (directory / "revoked.json").chmod(0o666)
    with pytest.raises(ConfigError, match="chmod go-w"):
        keys.revoked_keys(directory)


def make_old(directory: Path) -> None:
    """Make of a directory what an older Garrison left: no ledger, no revocations."""
    path = directory / "jwks.json"
    path.write_text(json.dumps({"keys": json.loads(path.read_text())["keys"]}))
    for name in ("revoked.json", "issued.jsonl"):
        (directory / name).unlink()


def test_a_directory_of_an_older_garrison_needs_no_such_file_until_a_key_is_revoked(directory: Path) -> None:
    make_old(directory)
    assert keys.revoked_keys(directory) == ()
    key_id = issue(directory)
    revoke_keys(directory, [key_id], now=NOW)
    assert revoked(directory) == [key_id]
    (directory / "revoked.json").unlink()
    with pytest.raises(ConfigError, match=r"revoked\.json: cannot be read"):
        keys.revoked_keys(directory)


@pytest.mark.parametrize("line", [b"{", b"{}", b'{"key_id": 7}', b"\xff"], ids=repr)
def test_a_damaged_ledger_is_told_with_its_line(directory: Path, line: bytes) -> None:
    issue(directory)
    with (directory / "issued.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ConfigError, match=r"issued\.jsonl: line 2 is damaged"):
        revoke_keys(directory, [], "demo", now=NOW)


def test_a_key_that_cannot_be_written_down_is_not_issued(directory: Path) -> None:
    (directory / "issued.jsonl").unlink()
    (directory / "issued.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"issued\.jsonl: cannot be written"):
        issue(directory)
