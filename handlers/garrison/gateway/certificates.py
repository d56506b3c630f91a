"""Make a development certificate for localhost, so that the first start already speaks TLS.

A directory holds a certificate authority (`ca.pem`, `ca.key`) and the server's certificate (`server.pem`,
`server.key`), renewed from the same authority. The authority is limited by name constraints to localhost: even who
steals its key can impersonate nothing else to a client that trusts it. A certificate of another authority in the place
of ours is left alone and refused: one of the operator's is named in gateway.yaml, see operator_certificate.py.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from garrison.errors import ConfigError
from garrison.files import check_private, make_private_directory, write_atomically

CA_LIFETIME = timedelta(days=365)
SERVER_LIFETIME = timedelta(days=30)  # short: it renews itself at every start
RENEW_BEFORE = timedelta(days=1)
BACKDATE = timedelta(minutes=5)  # for clients whose clock is a little behind
CA_NAME = "Garrison development CA (localhost only, not for production)"


@dataclass(frozen=True)
class Certificate:
    """Where the files are: the server's chain, its private key, and, of a development one, the authority to trust."""

    ca_path: Path | None
    chain_path: Path
    key_path: Path


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def name_certificate(directory: Path) -> Certificate:
    """Return where a directory has its development certificate, whether it is there already or not."""
    return Certificate(directory / "ca.pem", directory / "server.pem", directory / "server.key")


def ensure_certificate(directory: Path, now: datetime | None = None) -> Certificate:
    """Return a certificate for localhost that is valid for at least a day, making or renewing what is needed.

    Raises:
        ConfigError: the directory cannot be written, or what is in it does not fit together.
    """
    moment = now or datetime.now(UTC)
    paths, authority_path = name_certificate(directory), directory / "ca.pem"
    make_private_directory(directory, root_group=True)
    authority = _load_pair(authority_path, directory / "ca.key")
    if authority is None or _expires_soon(authority, moment):
        authority = _make_authority(moment)
        _write_pair(authority, authority_path, directory / "ca.key")
    server = _load_pair(paths.chain_path, paths.key_path)
    if server is not None and server.certificate.issuer != _name(CA_NAME):
        raise ConfigError(
            f"{paths.chain_path}: was issued by another authority, where development certificates are made; "
            f"move it and {paths.key_path} elsewhere, and name them in gateway.yaml (tls.certificate, tls.key)"
        )
    if server is None or _expires_soon(server, moment) or not _is_issued_by(server, authority):
        _write_pair(_make_server(authority, moment), paths.chain_path, paths.key_path)
    return paths


def _expires_soon(pair: _Pair, now: datetime) -> bool:
    return pair.certificate.not_valid_after_utc - now < RENEW_BEFORE


def _is_issued_by(server: _Pair, authority: _Pair) -> bool:
    try:
        server.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _load_pair(certificate_path: Path, key_path: Path) -> _Pair | None:
    if not certificate_path.exists() and not key_path.exists():
        return None
    remedy = f"remove {certificate_path} and {key_path}; they are made anew at the next start"
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{certificate_path}, {key_path}: not a certificate and its key; {remedy}") from error
    check_private(key_path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{certificate_path}: belongs to another key than {key_path}; {remedy}")
    return _Pair(certificate, key)


def _write_pair(pair: _Pair, certificate_path: Path, key_path: Path) -> None:
    pem = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(key_path, pem, mode=0o600)
    write_atomically(certificate_path, pair.certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _make_authority(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(CA_NAME)
    builder = _builder(name, name, key, key, now, now + CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    builder = builder.add_extension(x509.NameConstraints(_permitted_names(), None), critical=True)
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(authority: _Pair, now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + SERVER_LIFETIME, authority.certificate.not_valid_after_utc)
    builder = _builder(_name("localhost"), authority.certificate.subject, key, authority.key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(_server_names()), critical=False)
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start - BACKDATE).not_valid_after(end)
    return builder.add_extension(identifier, critical=False).add_extension(issuer_identifier, critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _server_names() -> list[x509.GeneralName]:
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    return [x509.DNSName("localhost"), *addresses]


def _permitted_names() -> list[x509.GeneralName]:
    networks = [x509.IPAddress(ipaddress.ip_network(network)) for network in ("127.0.0.1/32", "::1/128")]
    return [x509.DNSName("localhost"), *networks]


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
