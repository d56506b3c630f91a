"""The development certificate: made once, renewed in time, good for localhost and nothing else."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from garrison.errors import ConfigError
from garrison.gateway.certificates import Certificate, ensure_certificate

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def made(tmp_path: Path) -> Certificate:
    """A certificate made at `NOW`."""
    return ensure_certificate(tmp_path / "tls", NOW)


def test_keys_are_private_and_nothing_else_is_left_behind(made: Certificate) -> None:
    directory = made.ca_path.parent
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in directory.iterdir()} == {"ca.pem", "ca.key", "server.pem", "server.key"}
    assert {path.stat().st_mode & 0o777 for path in directory.glob("*.key")} == {0o600}


def test_the_server_is_localhost_and_signed_by_the_authority(made: Certificate) -> None:
    authority, server = load(made.ca_path), load(made.chain_path)
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    assert server.not_valid_after_utc == NOW + timedelta(days=30)


def test_the_authority_says_what_it_is_and_vouches_for_localhost_only(made: Certificate) -> None:
    authority = load(made.ca_path)
    assert "development" in authority.subject.rfc4514_string()
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert x509.DNSName("localhost") in (limits.value.permitted_subtrees or [])


def test_a_second_start_changes_nothing(made: Certificate) -> None:
    before = snapshot(made.ca_path.parent)
    assert ensure_certificate(made.ca_path.parent, NOW + timedelta(days=28)) == made
    assert snapshot(made.ca_path.parent) == before


def test_the_server_is_renewed_a_day_before_its_end_by_the_same_authority(made: Certificate) -> None:
    before = snapshot(made.ca_path.parent)
    ensure_certificate(made.ca_path.parent, NOW + timedelta(days=29, seconds=1))
    after = snapshot(made.ca_path.parent)
    assert before["ca.pem"] == after["ca.pem"]
    assert before["server.pem"] != after["server.pem"]
    load(made.chain_path).verify_directly_issued_by(load(made.ca_path))


def test_the_authority_is_renewed_with_its_server(made: Certificate) -> None:
    before = snapshot(made.ca_path.parent)
    ensure_certificate(made.ca_path.parent, NOW + timedelta(days=364, seconds=1))
    assert snapshot(made.ca_path.parent)["ca.pem"] != before["ca.pem"]
    load(made.chain_path).verify_directly_issued_by(load(made.ca_path))


def test_the_server_never_outlives_the_authority(made: Certificate) -> None:
    ensure_certificate(made.ca_path.parent, NOW + timedelta(days=350))
    assert load(made.chain_path).not_valid_after_utc == load(made.ca_path).not_valid_after_utc


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem", "server.key"])
@pytest.mark.parametrize("damage", ["missing", "junk"])
def test_damage_is_told_not_repaired(made: Certificate, name: str, damage: str) -> None:
    path = made.ca_path.parent / name
    path.unlink() if damage == "missing" else path.write_bytes(b"junk")
    with pytest.raises(ConfigError, match=r"remove .*made anew"):
        ensure_certificate(made.ca_path.parent, NOW)


def test_a_key_of_another_certificate_is_told(made: Certificate) -> None:
    directory = made.ca_path.parent
    (directory / "server.key").write_bytes((directory / "ca.key").read_bytes())
    with pytest.raises(ConfigError, match="belongs to another key"):
        ensure_certificate(directory, NOW)


def test_a_key_that_others_can_read_is_told(made: Certificate) -> None:
    made.key_path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        ensure_certificate(made.ca_path.parent, NOW)


def test_a_certificate_of_another_authority_is_refused_and_left_alone(tmp_path: Path) -> None:
    paths = ensure_certificate(tmp_path, NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a real authority")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + timedelta(days=90))
    paths.chain_path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths.key_path.write_bytes(pem)
    with pytest.raises(ConfigError, match="another authority"):
        ensure_certificate(tmp_path, NOW)
    assert paths.key_path.read_bytes() == pem
