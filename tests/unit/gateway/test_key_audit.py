"""What is done to clients' keys is written down in a chain, before it lets anybody in, after it shuts somebody out."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from garrison.audit import LOG_FILE, read_log, verify_log
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.gateway.keys import init_keys, issue_key, revoked_keys
from garrison.gateway.ledger import read_issued
from garrison.gateway.revocation import revoke_keys
from garrison.gateway.rotation import list_signing_keys, retire_key, rotate_keys

DAY = timedelta(days=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a fresh key pair."""
    init_keys(tmp_path / "keys")
    return tmp_path / "keys"


def issue(directory: Path) -> Any:
    return issue_key(directory, "demo", ["digits:predict"], DAY)


def events(directory: Path) -> list[dict[str, Any]]:
    return [dict(entry.event) for entry in read_log(directory / LOG_FILE)]


def spoil(directory: Path) -> None:
    """Break the chain, as somebody would who wants no more to be written."""
    with (directory / LOG_FILE).open("ab") as log:
        log.write(b'{"sequence": 99}\n')


def test_everything_that_is_done_is_in_the_chain_and_no_key_is(directory: Path) -> None:
    issued = issue(directory)
    present, before = rotate_keys(directory)
    revoke_keys(directory, [issued.record.key_id], reason="ticket 12")
    retire_key(directory, before.key_id)
    told = events(directory)
    assert [event["event"] for event in told] == [
        "signing_key_made", "key_issued", "signing_key_rotated", "key_revoked", "signing_key_retired",
    ]  # fmt: skip
    assert told[1]["key_id"] == told[3]["key_id"] == issued.record.key_id
    assert (told[1]["client"], told[1]["scopes"]) == ("demo", ["digits:predict"])
    assert told[2]["signing_key"] == present.key_id
    assert told[3]["reason"] == "ticket 12"
    assert told[0]["signing_key"] == told[1]["signing_key"] == told[2]["before"] == told[4]["signing_key"]
    assert issued.token.split(".")[2] not in (directory / LOG_FILE).read_text()
    assert verify_log(directory / LOG_FILE).entries == 5
    assert (directory / LOG_FILE).stat().st_mode & 0o777 == 0o600


def test_a_line_that_is_taken_out_is_found(directory: Path) -> None:
    issue(directory)
    issue(directory)
    lines = (directory / LOG_FILE).read_bytes().splitlines(keepends=True)
    (directory / LOG_FILE).write_bytes(lines[0] + lines[2])
    with pytest.raises(ArtifactRefused, match="line 2"):
        verify_log(directory / LOG_FILE)


def test_what_cannot_be_written_down_lets_nobody_in(directory: Path) -> None:
    spoil(directory)
    signing = list_signing_keys(directory)
    for let_in in (issue, rotate_keys):
        with pytest.raises(Undecided, match="move the log aside"):
            let_in(directory)
    assert read_issued(directory) == ()
    assert list_signing_keys(directory) == signing


def test_no_pair_is_made_where_nothing_can_be_written_down(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / LOG_FILE).mkdir()
    with pytest.raises(Undecided):
        init_keys(tmp_path / "keys")
    assert not (tmp_path / "keys" / "jwks.json").exists()


def test_a_spoilt_log_keeps_no_key_in_force(directory: Path) -> None:
    issued, old = issue(directory), list_signing_keys(directory)[0].key_id
    rotate_keys(directory)
    spoil(directory)
    with pytest.raises(Undecided, match="the keys are revoked, but not written down"):
        revoke_keys(directory, [issued.record.key_id])
    assert [one.key_id for one in revoked_keys(directory)] == [issued.record.key_id]
    with pytest.raises(Undecided, match="is taken out, but not written down"):
        retire_key(directory, old)
    assert old not in [one.key_id for one in list_signing_keys(directory)]


def test_what_is_refused_is_not_written_down_as_done(directory: Path) -> None:
    before = events(directory)
    with pytest.raises(ConfigError):
        issue_key(directory, "demo", [], DAY)
    with pytest.raises(ConfigError):
        revoke_keys(directory, ["0" * 32])
    with pytest.raises(ConfigError):
        retire_key(directory, "unknown")
    assert events(directory) == before


def test_each_line_is_of_the_form_that_the_stores_log_has(directory: Path) -> None:
    (line,) = (directory / LOG_FILE).read_text().splitlines()
    assert json.loads(line).keys() == {"sequence", "time", "event", "previous", "hash"}
