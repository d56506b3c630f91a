"""The operator's certificate: what can be served passes, whatever else is said in one sentence before Envoy starts."""

import datetime
import os
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from garrison.errors import ConfigError
from garrison.gateway.certificates import Certificate
from garrison.gateway.operator_certificate import check_operator_certificate

NOW = datetime.datetime(2030, 1, 1, tzinfo=UTC)
END = NOW + timedelta(days=90)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def make(subject: str, issuer: str, key: Any, signer: Any, end: datetime.datetime = END) -> bytes:
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), 7, NOW - timedelta(days=1), end)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signer, digest).public_bytes(serialization.Encoding.PEM)


def pem(key: Any, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.fixture(scope="module")
def authority() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Certificate]:
    def write(chain: bytes, key: bytes, mode: int = 0o400) -> Certificate:
        (tmp_path / "tls.pem").write_bytes(chain)
        (tmp_path / "tls.key").write_bytes(key)
        (tmp_path / "tls.key").chmod(mode)
        return Certificate(None, tmp_path / "tls.pem", tmp_path / "tls.key")

    return write


@pytest.fixture
def good(write: Callable[..., Certificate], authority: ec.EllipticCurvePrivateKey) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = make("example.org", "authority", key, authority) + make("authority", "authority", authority, authority)
    return write(chain, pem(key))


KEYS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("generate", KEYS.values(), ids=KEYS)
def test_kinds_of_keys_that_are_served(
    write: Callable[..., Certificate], authority: Any, generate: Callable[[], Any]
) -> None:
    key = generate()
    assert check_operator_certificate(write(make("a", "b", key, authority), pem(key)), NOW) == END


def test_the_end_is_the_first_of_the_chain(write: Callable[..., Certificate], authority: Any) -> None:
    key, soon = ec.generate_private_key(ec.SECP256R1()), NOW + timedelta(days=3)
    chain = make("a", "authority", key, authority) + make("authority", "authority", authority, authority, soon)
    assert check_operator_certificate(write(chain, pem(key)), NOW) == soon


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (END, "expired on 2030-04-01"),
        (END + timedelta(days=400), "expired on"),
        (NOW - timedelta(days=2), "valid only from 2029-12-31"),
    ],
    ids=["at its end", "long ago", "not yet"],
)
def test_it_is_in_force(good: Certificate, moment: datetime.datetime, words: str) -> None:
    assert check_operator_certificate(good, END - timedelta(seconds=1)) == END
    with pytest.raises(ConfigError, match=words):
        check_operator_certificate(good, moment)


def test_a_chain_in_the_wrong_order(good: Certificate) -> None:
    first, second = good.chain_path.read_bytes().split(b"-----BEGIN")[1:]
    good.chain_path.write_bytes(b"-----BEGIN" + second + b"-----BEGIN" + first)
    with pytest.raises(ConfigError, match="the server's own certificate stands first"):
        check_operator_certificate(good, NOW)


def test_a_chain_with_a_stranger(write: Callable[..., Certificate], authority: Any) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = make("a", "authority", key, authority) + make("authority", "authority", other, other)
    with pytest.raises(ConfigError, match="CN=a is not followed by its issuer"):
        check_operator_certificate(write(chain, pem(key)), NOW)


Spoil = Callable[[Certificate], object]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "no chain": (lambda one: one.chain_path.unlink(), r"cannot be read .*tls\.certificate"),
    "no key": (lambda one: one.key_path.unlink(), r"cannot be read .*tls\.key"),
    "a directory": (lambda one: (one.key_path.unlink(), one.key_path.mkdir()), "cannot be read"),
    "junk for a chain": (lambda one: one.chain_path.write_bytes(b"junk"), "no certificate in PEM"),
    "junk for a key": (lambda one: (one.key_path.chmod(0o600), one.key_path.write_bytes(b"junk")), "no private key"),
    "another key": (
        lambda one: (one.key_path.chmod(0o600), one.key_path.write_bytes(pem(KEYS["P-256"]()))),
        "belongs to another key",
    ),
    "a key with a password": (
        lambda one: (one.key_path.chmod(0o600), one.key_path.write_bytes(pem(KEYS["P-256"](), b"secret"))),
        "without a password",
    ),
    "a key of another kind": (
        lambda one: (one.key_path.chmod(0o600), one.key_path.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))),
        "of a kind that is not served",
    ),
    "a chain that others write": (lambda one: one.chain_path.chmod(0o646), "other users can write"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_what_cannot_be_served(good: Certificate, spoil: Spoil, words: str) -> None:
    spoil(good)
    with pytest.raises(ConfigError, match=words):
        check_operator_certificate(good, NOW)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_who_may_read_the_key(good: Certificate, mode: int) -> None:
    good.key_path.chmod(mode)
    check_operator_certificate(good, NOW)


@pytest.mark.parametrize(("mode", "words"), [(0o444, "everybody"), (0o604, "everybody"), (0o660, "write to it")])
def test_who_may_not(good: Certificate, mode: int, words: str) -> None:
    good.key_path.chmod(mode)
    with pytest.raises(ConfigError, match=words):
        check_operator_certificate(good, NOW)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_another_owner_or_group(good: Certificate) -> None:
    good.key_path.chmod(0o440)
    os.chown(good.key_path, -1, 4711)
    with pytest.raises(ConfigError, match="another group"):
        check_operator_certificate(good, NOW)
    os.chown(good.key_path, 4711, 0)
    with pytest.raises(ConfigError, match="belongs to another user"):
        check_operator_certificate(good, NOW)
