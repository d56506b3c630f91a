"""The pair that signs API keys, in two files: `signing.pem`, which only issuing needs, and `jwks.json` for the gateway.

`jwks.json` holds the public half, and those of earlier pairs until the last key that one signed has expired (`exp` in
it). Beside them it says whether there is a file of revocations, which then must not be missing, and whether every key
that was issued is written down. PyJWT is imported where keys are made or read: what only runs a model server lacks it.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.errors import ConfigError
from garrison.files import check_private, check_unchanged_by_others, read_file, write_atomically
from garrison.gateway.ledger import ISSUED_FILE, REVOKED_FILE

ALGORITHM = "ES256"
PRIVATE_FILE, PUBLIC_FILE = "signing.pem", "jwks.json"
PUBLIC_FILES = (PUBLIC_FILE, REVOKED_FILE)  # all that the gateway needs
_REVOCATIONS, _LEDGER = "revocations", "ledger"
_ANEW = f"remove it and {PRIVATE_FILE}, run `garrison keys init`, and issue all keys anew"
_ADVICE = f"restore it, or {_ANEW}"
_NEXT = "restore it, or run `garrison keys rotate`"


@dataclass(frozen=True)
class PublicKeys:
    """The public keys, that of the present pair first."""

    keys: tuple[dict[str, Any], ...]
    has_revocations: bool = True
    has_ledger: bool = True  # not if the pair was made by a Garrison that did not write down what it issued

    def valid(self, now: datetime) -> list[dict[str, Any]]:
        """Return those that may have signed a key that has not expired."""
        return [key for key in self.keys if key.get("exp", now.timestamp() + 1) > now.timestamp()]


def read_public(directory: Path) -> PublicKeys:
    """Read every public key of a directory.

    Raises:
        ConfigError: the file is missing, damaged, or holds a private key.
    """
    import jwt

    path = directory / PUBLIC_FILE
    try:
        value = json.loads(read_file(path, 64 * 1024))
        listed = value["keys"]
        keys = [jwt.PyJWK(key, algorithm=ALGORITHM) for key in listed]
        sound = all(isinstance(key.get("exp", 0), int) for key in listed)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run `garrison keys init`") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, jwt.PyJWTError) as error:
        raise ConfigError(f"{path}: is not a set of public keys; {_ADVICE}") from error
    for trusted in (directory, path):  # whoever can replace this file can issue keys
        check_unchanged_by_others(trusted)
    if any("d" in key for key in listed):
        raise ConfigError(f"{path}: holds a private key; {_ANEW}")
    if not sound or not keys or not all(key.key_id for key in keys):
        raise ConfigError(f"{path}: holds no key with a kid; {_ADVICE}")
    return PublicKeys(tuple(listed), _REVOCATIONS in value, _LEDGER in value)


def write_public(directory: Path, public: PublicKeys) -> None:
    """Write the public keys, all at once.

    Raises:
        ConfigError: the file cannot be written.
    """
    value: dict[str, Any] = {"keys": list(public.keys)}
    if public.has_revocations:
        value[_REVOCATIONS] = REVOKED_FILE
    if public.has_ledger:
        value[_LEDGER] = ISSUED_FILE
    write_atomically(directory / PUBLIC_FILE, json.dumps(value, indent=2).encode() + b"\n", mode=0o644)


def make_private() -> ec.EllipticCurvePrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def write_private(directory: Path, private: ec.EllipticCurvePrivateKey) -> None:
    """Write the private key, for its owner alone.

    Raises:
        ConfigError: the file cannot be written.
    """
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(encoding, form, serialization.NoEncryption())
    write_atomically(directory / PRIVATE_FILE, pem, mode=0o600)


def load_private(directory: Path) -> ec.EllipticCurvePrivateKey:
    """Read the private key.

    Raises:
        ConfigError: it is missing, damaged, of another kind, or others can read it.
    """
    path = directory / PRIVATE_FILE
    try:
        pem = read_file(path, 16 * 1024)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run `garrison keys init`") from error
    check_private(path)
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is not a private key; {_NEXT}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ConfigError(f"{path}: is not an EC P-256 key; {_NEXT}")
    return private


def public_jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the public half as a JSON Web Key, named (`kid`) by its own digest (RFC 7638)."""
    from jwt.algorithms import ECAlgorithm

    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    return {**jwk, "kid": _thumbprint(jwk), "alg": ALGORITHM, "use": "sig"}


def _thumbprint(jwk: dict[str, Any]) -> str:
    members = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()
