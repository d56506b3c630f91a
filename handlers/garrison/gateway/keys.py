"""Issue API keys that are signed, scoped to models and expire: JSON Web Tokens with ES256 signatures.

A directory holds `signing.pem`, the private key that only `garrison keys issue` needs, and `jwks.json`, the public
half, which is all that the gateway needs: nothing can be stolen from it. A key's bearer is whoever holds it.
PyJWT is imported where keys are made or read: what only runs a model server does not have it.

It does not defend against theft of a key before it expires; take the client out of config/clients.yaml then.
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
from garrison.gateway.clients import CLIENT_MEANING, CLIENT_NAME

ISSUER = "garrison"
AUDIENCE = "garrison-gateway"
ALGORITHM = "ES256"
MAX_LIFETIME = timedelta(days=366)
PRIVATE_FILE = "signing.pem"
PUBLIC_FILE = "jwks.json"
DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class IssuedKey:
    """An API key and what it allows; `key_id` names this one key (the token's `jti`)."""

    token: str
    client: str
    models: tuple[str, ...]
    expires_at: datetime
    key_id: str


def init_keys(directory: Path) -> str:
    """Make the key pair that signs API keys; return its id (`kid`).

    Raises:
        ConfigError: the directory holds a pair already, or cannot be written.
    """
    for name in (PRIVATE_FILE, PUBLIC_FILE):
        if (directory / name).exists():
            raise ConfigError(f"{directory / name}: exists already; a new key would make every issued API key invalid")
    make_private_directory(directory)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = _public_jwk(private)
    write_atomically(directory / PRIVATE_FILE, pem, mode=0o600)
    write_atomically(directory / PUBLIC_FILE, json.dumps({"keys": [public]}, indent=2).encode() + b"\n", mode=0o644)
    return str(public["kid"])


def issue_key(
    directory: Path, client: str, models: Sequence[str], expires: timedelta, now: datetime | None = None
) -> IssuedKey:
    """Sign an API key for one client and some models.

    Raises:
        ConfigError: with every problem of what was asked for, or of the signing key.
    """
    import jwt

    _check_wanted(client, models, expires)
    private = _load_private(directory / PRIVATE_FILE)
    issued_at = (now or datetime.now(UTC)).replace(microsecond=0)
    expires_at = issued_at + expires
    key_id = uuid.uuid4().hex
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": client,
        "models": list(models),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": expires_at,
        "jti": key_id,
    }
    token = jwt.encode(claims, private, algorithm=ALGORITHM, headers={"kid": _public_jwk(private)["kid"]})
    return IssuedKey(token, client, tuple(models), expires_at, key_id)


def public_jwks(directory: Path) -> dict[str, Any]:
    """Read the public keys that the gateway verifies with (a JSON Web Key Set).

    Raises:
        ConfigError: the file is missing, damaged, or holds a private key.
    """
    import jwt

    path = directory / PUBLIC_FILE
    try:
        jwks = json.loads(read_file(path, 64 * 1024))
        keys = [jwt.PyJWK(key, algorithm=ALGORITHM) for key in jwks["keys"]]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run `garrison keys init`") from error
    except (ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError) as error:
        raise ConfigError(f"{path}: is not a set of public keys; remove it and run `garrison keys init`") from error
    for trusted in (directory, path):  # whoever can replace this file can issue keys
        check_unchanged_by_others(trusted)
    if any("d" in key for key in jwks["keys"]):
        raise ConfigError(f"{path}: holds a private key; remove it and run `garrison keys init`")
    if not keys or not all(key.key_id for key in keys):
        raise ConfigError(f"{path}: holds no key with a kid; remove it and run `garrison keys init`")
    return {"keys": jwks["keys"]}


def parse_duration(text: str) -> timedelta:
    """Read `90d`, `12h` or `30m`.

    Raises:
        ConfigError: it is none of these, or not above zero.
    """
    match = re.fullmatch(r"([0-9]{1,7})([mhd])", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"'{text[:40]}' is not a duration; write for example 90d, 12h or 30m")
    return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})


def _check_wanted(client: str, models: Sequence[str], expires: timedelta) -> None:
    problems = []
    if not re.fullmatch(CLIENT_NAME, client):
        problems.append(f"client '{client[:80]}' is not {CLIENT_MEANING}")
    if not models:
        problems.append("models: name at least one model that the key is for")
    problems += [f"model '{m[:80]}' is not {MODEL_MEANING}" for m in models if not re.fullmatch(MODEL_NAME, m)]
    if not timedelta(0) < expires <= MAX_LIFETIME:
        problems.append(f"expires: must be above zero and at most {MAX_LIFETIME.days}d; a key is renewed, not eternal")
    if problems:
        raise ConfigError(*problems)


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


def _public_jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    from jwt.algorithms import ECAlgorithm

    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {**jwk, "kid": _thumbprint(jwk), "alg": ALGORITHM, "use": "sig"}


def _thumbprint(jwk: dict[str, Any]) -> str:
    """Return the key's name after RFC 7638: a digest of the public key itself."""
    members = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()
