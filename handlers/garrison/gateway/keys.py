"""Issue API keys that are signed, scoped and expire: JSON Web Tokens with ES256 signatures.

A directory holds the pair that signs them (see signing.py), and what was issued and revoked (see ledger.py). The
gateway needs the public files of it alone: nothing can be stolen from it. A key's bearer is whoever holds it.

It does not defend against whoever holds a stolen key before somebody notices and revokes it.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from garrison.contract import MODEL_NAME
from garrison.errors import ConfigError
from garrison.files import make_private_directory
from garrison.gateway.authentication import MODEL_MEANING
from garrison.gateway.clients import CLIENT_MEANING, CLIENT_NAME, VERBS
from garrison.gateway.key_audit import note
from garrison.gateway.ledger import Issued, Revoked, hold, note_issued, read_revoked, start_ledger, write_revoked
from garrison.gateway.signing import (
    ALGORITHM,
    PRIVATE_FILE,
    PUBLIC_FILE,
    PublicKeys,
    load_private,
    make_private,
    public_jwk,
    read_public,
    write_private,
    write_public,
)

ISSUER = "garrison"
AUDIENCE = "garrison-gateway"
MAX_LIFETIME = timedelta(days=366)
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
        Undecided: it cannot be written down in the audit log.
    """
    _check_empty(directory)
    make_private_directory(directory)
    with hold(directory):
        _check_empty(directory)  # somebody else may have been faster
        private = make_private()
        public = public_jwk(private)
        note("signing_key_made", directory, signing_key=public["kid"])
        start_ledger(directory)
        write_revoked(directory, read_revoked(directory, required=False))
        write_private(directory, private)
        write_public(directory, PublicKeys((public,)))
    return str(public["kid"])


def _check_empty(directory: Path) -> None:
    private_file, public_file = directory / PRIVATE_FILE, directory / PUBLIC_FILE
    if public_file.exists():
        raise ConfigError(f"{public_file}: exists already; to change the signing key, run `garrison keys rotate`")
    if private_file.exists():
        advice = "restore that file, or remove this one and issue all keys anew"
        raise ConfigError(f"{private_file}: exists already, without {PUBLIC_FILE}; {advice}")


def issue_key(
    directory: Path, client: str, scopes: Sequence[str], expires: timedelta, now: datetime | None = None
) -> IssuedKey:
    """Sign an API key for one client and some scopes (`MODEL:VERB`), and write down that it was issued.

    Raises:
        ConfigError: with every problem of what was asked for, or of the signing key.
        Undecided: it cannot be written down in the audit log.
    """
    import jwt

    _check_wanted(client, scopes, expires)
    with hold(directory):
        private, kid = _load_signing(directory)
        issued_at = (now or datetime.now(UTC)).replace(microsecond=0)
        record = Issued(uuid.uuid4().hex, client, tuple(scopes), issued_at, issued_at + expires, kid)
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
        token = jwt.encode(claims, private, algorithm=ALGORITHM, headers={"kid": kid})
        _note_before(directory, record)
        note_issued(directory, record)
    return IssuedKey(token, record)


def _note_before(directory: Path, record: Issued) -> None:
    note(
        "key_issued",
        directory,
        key_id=record.key_id,
        client=record.client,
        scopes=list(record.scopes),
        expires_at=record.expires_at.isoformat(),
        signing_key=record.signed_by,
    )


def public_jwks(directory: Path, now: datetime | None = None) -> dict[str, Any]:
    """Read the public keys that the gateway verifies with (a JSON Web Key Set), without those that have run out.

    Raises:
        ConfigError: the file is missing, damaged, or holds a private key.
    """
    return {"keys": read_public(directory).valid(now or datetime.now(UTC))}


def revoked_keys(directory: Path) -> tuple[Revoked, ...]:
    """Return the keys that count no more.

    Raises:
        ConfigError: what says so is damaged or missing, as it may be only where keys were made by an older Garrison.
    """
    return read_revoked(directory, required=read_public(directory).has_revocations)


def parse_duration(text: str) -> timedelta:
    """Read `90d`, `12h` or `30m`.

    Raises:
        ConfigError: it is none of these, or not above zero.
    """
    match = re.fullmatch(r"([0-9]{1,7})([mhd])", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"expires: '{text[:40]}' is not a duration; write for example 90d, 12h or 30m")
    return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})


def _load_signing(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """Return the signing key and its id, once it is sure that the gateway knows it as the present one."""
    private = load_private(directory)
    kid = str(public_jwk(private)["kid"])
    present = [key["kid"] for key in read_public(directory).keys if "exp" not in key]
    if kid not in present:
        found = f"{directory / PUBLIC_FILE}: does not name {PRIVATE_FILE} as the key that signs now"
        raise ConfigError(f"{found}; a rotation was broken off: run `garrison keys rotate` once more")
    return private, kid


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
