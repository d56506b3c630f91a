"""API keys: what is issued, what is refused, and what the gateway gets to see of the signing key."""

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from garrison.errors import ConfigError
from garrison.gateway import keys, ledger

NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a fresh key pair."""
    keys.init_keys(tmp_path / "keys")
    return tmp_path / "keys"


def read_token(directory: Path, token: str) -> dict[str, object]:
    jwk = jwt.PyJWK(keys.public_jwks(directory)["keys"][0])
    unchecked = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}  # `NOW` is not now
    return jwt.decode(token, jwk, algorithms=["ES256"], audience="garrison-gateway", options=unchecked)


def test_the_private_key_is_private_and_the_id_is_the_public_keys(directory: Path) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in directory.iterdir()) == [
        ".lock",
        "audit.jsonl",
        "issued.jsonl",
        "jwks.json",
        "revoked.json",
        "signing.pem",
    ]


def test_init_returns_the_key_id_and_never_overwrites(tmp_path: Path) -> None:
    kid = keys.init_keys(tmp_path / "keys")
    before = (tmp_path / "keys" / "signing.pem").read_bytes()
    assert [key["kid"] for key in keys.public_jwks(tmp_path / "keys")["keys"]] == [kid]
    with pytest.raises(ConfigError, match="exists already"):
        keys.init_keys(tmp_path / "keys")
    assert (tmp_path / "keys" / "signing.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("lost", "advice"),
    [("jwks.json", "restore that file, or remove this one"), ("signing.pem", "run `garrison keys rotate`")],
)
def test_half_a_pair_says_how_to_go_on(tmp_path: Path, lost: str, advice: str) -> None:
    keys.init_keys(tmp_path / "keys")
    (tmp_path / "keys" / lost).unlink()
    with pytest.raises(ConfigError, match=f"exists already.*{advice}"):
        keys.init_keys(tmp_path / "keys")


def test_of_two_that_make_a_pair_at_the_same_time_one_is_refused(tmp_path: Path) -> None:
    directory, made = tmp_path / "keys", []

    def make() -> None:
        with contextlib.suppress(ConfigError):
            made.append(keys.init_keys(directory))

    directory.mkdir(mode=0o700)
    with ledger.hold(directory):  # both have found nothing, and wait
        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.2)
    for thread in threads:
        thread.join(60)
    assert [key["kid"] for key in keys.public_jwks(directory)["keys"]] == made


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        keys.init_keys(tmp_path)


def test_an_issued_key_says_who_for_what_and_until_when(directory: Path) -> None:
    issued = keys.issue_key(directory, "demo", ["digits:predict", "faces:explain"], DAY, now=NOW)
    claims = read_token(directory, issued.token)
    start = int(NOW.timestamp())
    assert claims == {
        "iss": "garrison", "aud": "garrison-gateway", "sub": "demo", "scopes": ["digits:predict", "faces:explain"],
        "iat": start, "nbf": start, "exp": start + 86_400, "jti": issued.record.key_id,
    }  # fmt: skip
    assert jwt.get_unverified_header(issued.token)["alg"] == "ES256"
    assert jwt.get_unverified_header(issued.token)["kid"] == keys.public_jwks(directory)["keys"][0]["kid"]
    assert (issued.record.client, issued.record.scopes) == ("demo", ("digits:predict", "faces:explain"))
    assert issued.record.expires_at == NOW.replace(microsecond=0) + DAY


def test_no_two_keys_are_the_same(directory: Path) -> None:
    first, second = (keys.issue_key(directory, "demo", ["digits:predict"], DAY, now=NOW) for _ in range(2))
    assert first.record.key_id != second.record.key_id


@pytest.mark.parametrize("expires", [timedelta(seconds=1), timedelta(days=366)], ids=str)
def test_lifetimes_up_to_the_limit_are_issued(directory: Path, expires: timedelta) -> None:
    issued = keys.issue_key(directory, "demo", ["digits:predict"], expires, now=NOW)
    assert issued.record.expires_at > NOW.replace(microsecond=0)


@pytest.mark.parametrize("expires", [timedelta(0), timedelta(days=-1), timedelta(days=366, seconds=1)], ids=str)
def test_other_lifetimes_are_not(directory: Path, expires: timedelta) -> None:
    with pytest.raises(ConfigError, match="expires"):
        keys.issue_key(directory, "demo", ["digits:predict"], expires)


def test_all_problems_of_a_wish_are_told_at_once(directory: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        keys.issue_key(directory, "De mo", ["../x:predict", "ok:train", "ok"], timedelta(days=400))
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigError, match="at least one model"):
        keys.issue_key(directory, "demo", [], DAY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602], ids=oct)
def test_a_signing_key_that_others_can_read_is_not_used(directory: Path, mode: int) -> None:
    (directory / "signing.pem").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        keys.issue_key(directory, "demo", ["digits:predict"], DAY)


def rsa_key() -> bytes:
    return as_pem(rsa.generate_private_key(65_537, 2048))


def other_curve() -> bytes:
    return as_pem(ec.generate_private_key(ec.SECP384R1()))


def as_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


@pytest.mark.parametrize("make", [bytes, lambda: b"junk", rsa_key, other_curve], ids=["empty", "junk", "rsa", "p384"])
def test_a_damaged_or_foreign_signing_key_is_not_used(directory: Path, make: Callable[[], bytes]) -> None:
    (directory / "signing.pem").write_bytes(make())
    with pytest.raises(ConfigError, match="garrison keys rotate"):
        keys.issue_key(directory, "demo", ["digits:predict"], DAY)


def test_a_missing_signing_key_says_what_to_do(tmp_path: Path) -> None:
    for action in (
        lambda: keys.issue_key(tmp_path, "demo", ["digits:predict"], DAY),
        lambda: keys.public_jwks(tmp_path),
    ):
        with pytest.raises(ConfigError, match="garrison keys init"):
            action()


def test_the_gateway_needs_and_gets_the_public_half_only(directory: Path) -> None:
    (directory / "signing.pem").unlink()
    jwks = keys.public_jwks(directory)
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in jwks["keys"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"keys": []}', '{"keys": [{}]}', '{"keys": [{"kty": "oct", "k": "AA"}]}']
)
def test_damaged_public_keys_are_refused(directory: Path, text: str) -> None:
    (directory / "jwks.json").write_text(text)
    with pytest.raises(ConfigError, match="garrison keys init"):
        keys.public_jwks(directory)


def test_a_private_key_among_the_public_ones_is_refused(directory: Path) -> None:
    jwks = json.loads((directory / "jwks.json").read_text())
    private = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    jwks["keys"].append({**private, "kid": "x"})
    (directory / "jwks.json").write_text(json.dumps(jwks))
    with pytest.raises(ConfigError, match="private key"):
        keys.public_jwks(directory)


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30))],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert keys.parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "0d", "90", "d", "-1d", "1.5h", "1w", "90d ", "٣d", "99999999d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ConfigError, match="90d, 12h or 30m"):
        keys.parse_duration(text)
