"""Issue API keys that are signed, scoped and expire: JSON Web Tokens with ES256 signatures.

A directory holds `signing.pem`, the private key that only issuing needs, and `jwks.json`, the public keys, which with
`revoked.json` is all that the gateway needs: nothing can be stolen from it. A key's bearer is whoever holds it.
After a rotation `jwks.json` holds the public halves of earlier signing keys, too, until the last key that one signed
has expired (`exp` in it). PyJWT is imported where keys are made or read: what only runs a model server lacks it.

It does not defend against whoever holds a stolen key before somebody notices and revokes it.
"""

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.contract import MODEL_NAME
from garrison.errors import ConfigError
from garrison.files import check_private, check_unchanged_by_others, make_private_directory, read_file, write_atomically
from garrison.gateway.authentication import MODEL_MEANING
from garrison.gateway.clients import CLIENT_MEANING, CLIENT_NAME, VERBS
from garrison.gateway.ledger import (
    REVOKED_FILE,
    Issued,
    Revoked,
    hold,
    note_issued,
    read_revoked,
    write_revoked,
)

ISSUER = "garrison"
AUDIENCE = "garrison-gateway"
ALGORITHM = "ES256"
MAX_LIFETIME = timedelta(days=366)
PRIVATE_FILE = "signing.pem"
PUBLIC_FILE = "jwks.json"
PUBLIC_FILES = (PUBLIC_FILE, REVOKED_FILE)  # all that the gateway needs
REVOCATIONS = "revocations"  # in it: the name of the file that says which keys count no more
DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class IssuedKey:
    """An API key and what it allows; `record.key_id` names this one key (the token's `jti`)."""

    token: str
    record: Issued


def init_keys(directory: Path) -> str:
    """Make the key pair that signs API keys; return its id (`kid`).

    Raises:
        ConfigError: the directory holds a pair already, or cannot be written.
    """
    for name in (PRIVATE_FILE, PUBLIC_FILE):
        if (directory / name).exists():
            raise ConfigError(
                f"{directory / name}: exists already; to change the signing key, run `garrison keys rotate`"
            )
    make_private_directory(directory)
    with hold(directory):
        private = ec.generate_private_key(ec.SECP256R1())
        write_revoked(directory, read_revoked(directory, required=False))
        _write_private(directory, private)
        _write_public(directory, [_public_jwk(private)])
    return _name(private)


def issue_key(
    directory: Path, client: str, scopes: Sequence[str], expires: timedelta, now: datetime | None = None
) -> IssuedKey:
    """Sign an API key for one client and some scopes (`MODEL:VERB`), and write down that it was issued.

    Raises:
        ConfigError: with every problem of what was asked for, or of the signing key.
    """
    import jwt

    _check_wanted(client, scopes, expires)
    with hold(directory):
        private = _load_private(directory / PRIVATE_FILE)
        issued_at = (now or datetime.now(UTC)).replace(microsecond=0)
        record = Issued(uuid.uuid4().hex, client, tuple(scopes), issued_at, issued_at + expires, _name(private))
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": record.client,
            "scopes": list(record.scopes),
            "iat": record.issued_at,
            "nbf": record.issued_at,
            "exp": record.expires_at,
            "jti": record.key_id,
        }
        token = jwt.encode(claims, private, algorithm=ALGORITHM, headers={"kid": record.signed_by})
        note_issued(directory, record)
    return IssuedKey(token, record)


def public_jwks(directory: Path, now: datetime | None = None) -> dict[str, Any]:
    """Read the public keys that the gateway verifies with (a JSON Web Key Set), without those that have run out.

    Raises:
        ConfigError: the file is missing, damaged, or holds a private key.
    """
    moment = (now or datetime.now(UTC)).timestamp()
    return {"keys": [key for key in read_public(directory) if key.get("exp", moment + 1) > moment]}


def revoked_keys(directory: Path) -> tuple[Revoked, ...]:
    """Return the keys that count no more.

    Raises:
        ConfigError: what says so is damaged or missing, as it may be only where keys were made by an older Garrison.
    """
    return read_revoked(directory, required=REVOCATIONS in _read_public_file(directory / PUBLIC_FILE))


def parse_duration(text: str) -> timedelta:
    """Read `90d`, `12h` or `30m`.

    Raises:
        ConfigError: it is none of these, or not above zero.
    """
    match = re.fullmatch(r"([0-9]{1,7})([mhd])", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"'{text[:40]}' is not a duration; write for example 90d, 12h or 30m")
    return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})


def read_public(directory: Path) -> list[dict[str, Any]]:
    """Read every public key of the directory, the newest first, with those that have run out.

    Raises:
        ConfigError: as for `public_jwks`.
    """
    import jwt

    path = directory / PUBLIC_FILE
    damaged = f"{path}: is not a set of public keys; restore it, or remove it and run `garrison keys init`"
    try:
        listed = _read_public_file(path)["keys"]
        keys = [jwt.PyJWK(key, algorithm=ALGORITHM) for key in listed]
    except (ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError) as error:
        raise ConfigError(damaged) from error
    for trusted in (directory, path):  # whoever can replace this file can issue keys
        check_unchanged_by_others(trusted)
    if any("d" in key for key in listed):
        raise ConfigError(f"{path}: holds a private key; remove it and run `garrison keys init`")
    if not keys or not all(key.key_id for key in keys):
        raise ConfigError(f"{path}: holds no key with a kid; remove it and run `garrison keys init`")
    if not all(isinstance(key.get("exp", 0), int) for key in listed):
        raise ConfigError(damaged)
    return list(listed)


def _read_public_file(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_file(path, 64 * 1024))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run `garrison keys init`") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: is not a set of public keys; restore it, or remove it and run `garrison keys init`"
        ) from error
    return value if isinstance(value, dict) else {}


def _write_public(directory: Path, public: Sequence[dict[str, Any]]) -> None:
    """Write the public keys, and that there is a file of revocations beside them, which must not get lost."""
    text = json.dumps({"keys": list(public), REVOCATIONS: REVOKED_FILE}, indent=2)
    write_atomically(directory / PUBLIC_FILE, text.encode() + b"\n", mode=0o644)


def _write_private(directory: Path, private: ec.EllipticCurvePrivateKey) -> None:
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(directory / PRIVATE_FILE, pem, mode=0o600)


def _check_wanted(client: str, scopes: Sequence[str], expires: timedelta) -> None:
    problems = []
    if not re.fullmatch(CLIENT_NAME, client):
        problems.append(f"client '{client[:80]}' is not {CLIENT_MEANING}")
    if not scopes:
        problems.append("models: name at least one model that the key is for")
    for scope in scopes:
        model, _, verb = scope.partition(":")
        if not re.fullmatch(MODEL_NAME, model):
            problems.append(f"model '{model[:80]}' is not {MODEL_MEANING}")
        if verb not in VERBS:
            problems.append(f"verb '{verb[:80]}' is not one of {', '.join(VERBS)}")
    if not timedelta(0) < expires <= MAX_LIFETIME:
        problems.append(f"expires: must be above zero and at most {MAX_LIFETIME.days}d; a key is renewed, not eternal")
    if problems:
        raise ConfigError(*dict.fromkeys(problems))


def _load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        pem = read_file(path, 16 * 1024)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run `garrison keys init`") from error
    check_private(path)
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is not a private key; remove it and run `garrison keys init`") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ConfigError(f"{path}: is not an EC P-256 key; remove it and run `garrison keys init`")
    return private


def _name(private: ec.EllipticCurvePrivateKey) -> str:
    return str(_public_jwk(private)["kid"])


def _public_jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    from jwt.algorithms import ECAlgorithm

    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {**jwk, "kid": _thumbprint(jwk), "alg": ALGORITHM, "use": "sig"}


def _thumbprint(jwk: dict[str, Any]) -> str:
    """Return the key's name after RFC 7638: a digest of the public key itself."""
    members = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()
