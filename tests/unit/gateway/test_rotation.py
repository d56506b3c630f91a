"""A new key signs; what the earlier ones signed works for as long as it would have."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from garrison.errors import ConfigError
from garrison.gateway import keys
from garrison.gateway.rotation import list_signing_keys, retire_key, rotate_keys
from garrison.gateway.signing import load_private, public_jwk, write_private

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a fresh key pair."""
    keys.init_keys(tmp_path / "keys")
    return tmp_path / "keys"


def issue(directory: Path, lasts: timedelta = DAY, now: datetime = NOW) -> str:
    return keys.issue_key(directory, "demo", ["digits:predict"], lasts, now=now).token


def kids(directory: Path, now: datetime = NOW) -> list[str]:
    return [key["kid"] for key in keys.public_jwks(directory, now)["keys"]]


def verifies(directory: Path, token: str, now: datetime = NOW) -> bool:
    """Say whether a gateway that is rendered now would know who has signed a key."""
    kid = jwt.get_unverified_header(token)["kid"]
    for key in keys.public_jwks(directory, now)["keys"]:
        if key["kid"] == kid:
            options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
            jwt.decode(token, jwt.PyJWK(key), algorithms=["ES256"], audience=keys.AUDIENCE, options=options)
            return True
    return False


def test_old_and_new_keys_work_after_a_rotation(directory: Path) -> None:
    old = issue(directory)
    (before,) = kids(directory)
    present, earlier = rotate_keys(directory, NOW)
    new = issue(directory)
    assert kids(directory) == [present.key_id, before] and present.key_id != before
    assert (earlier.key_id, earlier.ends_at, earlier.unexpired) == (before, NOW + DAY, 1)
    assert (present.ends_at, present.unexpired) == (None, 0)
    assert verifies(directory, old) and verifies(directory, new)
    assert jwt.get_unverified_header(new)["kid"] == present.key_id


def test_an_earlier_key_is_dropped_with_the_last_key_that_it_signed(directory: Path) -> None:
    issue(directory)
    old = issue(directory, 3 * DAY)
    rotate_keys(directory, NOW)
    just_before, then = NOW + 3 * DAY - timedelta(seconds=1), NOW + 3 * DAY
    assert verifies(directory, old, just_before)
    assert not verifies(directory, old, then)
    rotate_keys(directory, then)
    assert len(json.loads((directory / "jwks.json").read_text())["keys"]) == 1  # the second one signed nothing


def test_several_earlier_keys_at_once(directory: Path) -> None:
    tokens = []
    for _ in range(4):
        tokens.append(issue(directory))
        rotate_keys(directory, NOW)
    assert len(kids(directory)) == 5
    assert all(verifies(directory, token) for token in tokens)


def test_an_earlier_key_can_be_taken_out_at_once(directory: Path) -> None:
    old = issue(directory)
    (before,) = kids(directory)
    rotate_keys(directory, NOW)
    new = issue(directory)
    gone = retire_key(directory, before, NOW)
    assert (gone.key_id, gone.unexpired) == (before, 1)
    assert not verifies(directory, old) and verifies(directory, new)


def test_the_key_that_signs_cannot_be_taken_out_nor_one_that_is_not_there(directory: Path) -> None:
    (present,) = kids(directory)
    with pytest.raises(ConfigError, match="`garrison keys rotate` first"):
        retire_key(directory, present, NOW)
    with pytest.raises(ConfigError, match=f"no signing key 'x'; it holds {present}"):
        retire_key(directory, "x", NOW)


def test_the_old_private_key_is_gone_and_the_new_one_is_private(directory: Path) -> None:
    before = (directory / "signing.pem").read_bytes()
    (present,) = rotate_keys(directory, NOW)
    assert (directory / "signing.pem").read_bytes() != before
    assert (directory / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert public_jwk(load_private(directory))["kid"] == present.key_id
    assert not [path for path in directory.iterdir() if before in path.read_bytes()]


def test_a_rotation_that_broke_off_is_noticed_and_made_good(directory: Path) -> None:
    """The public keys are written first; with the old private one still there, nobody gets a key that ends early."""
    old, private = issue(directory), load_private(directory)
    rotate_keys(directory, NOW)
    write_private(directory, private)
    with pytest.raises(ConfigError, match="a rotation was broken off: run `garrison keys rotate` once more"):
        issue(directory)
    rotate_keys(directory, NOW)
    assert verifies(directory, old) and verifies(directory, issue(directory))


def test_where_not_every_key_was_written_down_an_earlier_one_stays_for_a_year(directory: Path) -> None:
    path = directory / "jwks.json"
    path.write_text(json.dumps({"keys": json.loads(path.read_text())["keys"]}))  # as an older Garrison left it
    (directory / "issued.jsonl").unlink()
    issue(directory)
    _, earlier = rotate_keys(directory, NOW)
    assert earlier.ends_at == NOW + keys.MAX_LIFETIME
    issue(directory)
    _, second, _ = rotate_keys(directory, NOW)
    assert second.ends_at == NOW + DAY


@pytest.mark.parametrize("end", ['"soon"', "null", "[]", "{}"])
def test_an_end_that_is_none_is_refused(directory: Path, end: str) -> None:
    path = directory / "jwks.json"
    path.write_text(path.read_text().replace('"kid":', f'"exp": {end}, "kid":'))
    with pytest.raises(ConfigError, match=r"jwks\.json"):
        list_signing_keys(directory, NOW)


def test_commands_at_the_same_time_wait_for_each_other(directory: Path) -> None:
    tokens: list[str] = []

    def work() -> None:
        for _ in range(5):
            tokens.append(issue(directory))
            rotate_keys(directory, NOW)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tokens) == 20
    assert all(verifies(directory, token) for token in tokens)
    assert sum(one.ends_at is None for one in list_signing_keys(directory, NOW)) == 1
