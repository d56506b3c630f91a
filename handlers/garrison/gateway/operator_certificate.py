"""Check the certificate that the operator brings, before Envoy reads it: two files enter, the day of its end leaves.

The key may be readable by its owner and by a group of ours, as a container's secret is (root:root, mode 0440), and by
nobody else. It does not check whether clients trust the authority, or which names the certificate is for.
"""

import itertools
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from garrison.errors import ConfigError
from garrison.files import check_unchanged_by_others, read_file
from garrison.gateway.certificates import Certificate

WARN_BEFORE = timedelta(days=14)
LEAST_RSA_BITS = 2048  # Envoy takes no less
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_MOST_BYTES = 2**20


def check_operator_certificate(certificate: Certificate, now: datetime | None = None) -> datetime:
    """Check that a chain and its key can be served now; return when the first of the chain ends.

    Raises:
        ConfigError: a file is missing, readable or writable by the wrong users, not PEM, of another kind than is
            served, not in force, or the two do not fit together.
    """
    moment = now or datetime.now(UTC)
    chain = _load_chain(certificate.chain_path)
    key = _load_key(certificate.key_path)
    if key.public_key() != chain[0].public_key():
        raise ConfigError(
            f"{certificate.chain_path}: its first certificate belongs to another key than {certificate.key_path}; the "
            "server's own certificate stands first, its issuers after it"
        )
    _check_order(certificate.chain_path, chain)
    end = min(one.not_valid_after_utc for one in chain)
    if moment >= end:
        raise ConfigError(f"{certificate.chain_path}: expired on {end:%Y-%m-%d %H:%M} UTC; renew it")
    begin = max(one.not_valid_before_utc for one in chain)
    if moment < begin:
        raise ConfigError(f"{certificate.chain_path}: is valid only from {begin:%Y-%m-%d %H:%M} UTC on")
    return end


def _load_chain(path: Path) -> list[x509.Certificate]:
    data = _read(path, "tls.certificate")
    check_unchanged_by_others(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigError(f"{path}: is no certificate in PEM; write the chain, the server's own first") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    data = _read(path, "tls.key")
    _check_key_mode(path)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is no private key in PEM without a password") from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    raise ConfigError(f"{path}: is of a kind that is not served; take EC P-256, P-384, P-521 or RSA from 2,048 bits on")


def _read(path: Path, setting: str) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); see {setting} in gateway.yaml") from error


def _check_key_mode(path: Path) -> None:
    """Check who can read the key: the owner, and a group that this process is in; the owner is root or this user."""
    check_unchanged_by_others(path)
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o007:
        raise ConfigError(f"{path}: everybody can read it (mode {mode:04o}); run `chmod o= {path}`")
    if mode & 0o040 and found.st_gid not in (0, os.getegid(), *os.getgroups()):
        advice = f"run `chmod g= {path}`, or give it to a group of the gateway's"
        raise ConfigError(f"{path}: another group (gid {found.st_gid}) can read it; {advice}")


def _check_order(path: Path, chain: list[x509.Certificate]) -> None:
    for lower, upper in itertools.pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (InvalidSignature, ValueError, TypeError) as error:
            name = lower.subject.rfc4514_string()
            raise ConfigError(f"{path}: {name} is not followed by its issuer; put them in this order") from error
