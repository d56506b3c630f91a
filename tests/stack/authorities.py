"""Certificate authorities for tests: each issues certificates for whatever names, good or bad, and revokes them."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass
class Authority:
    """A certificate authority, of its own or below another one; `chain` is what stands between it and the root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def issue(
        self,
        path: Path,
        *names: str,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        usage: x509.ObjectIdentifier = CLIENT,
        serial: int | None = None,
    ) -> x509.Certificate:
        """Write a certificate for URIs, addresses and DNS names, its chain and its key to one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = start(name(path.stem), self.certificate.subject, key, begins, ends, serial)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([read_name(n) for n in names]), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        path.write_bytes(b"".join([as_pem(certificate), *map(as_pem, self.chain), key_pem(key)]))
        return certificate

    def pem(self) -> bytes:
        """Return this authority's own certificate."""
        return as_pem(self.certificate)

    def below(self, title: str) -> "Authority":
        """Return an authority whose certificate this one has issued."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = certify_authority(title, key, self.certificate.subject, self.key)
        return Authority(certificate, key, (certificate, *self.chain))

    def revoke(self, *certificates: x509.Certificate, ends: timedelta = DAY) -> bytes:
        """Return a list (CRL) of these certificates."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - 30 * DAY).next_update(now + ends)
        for certificate in certificates:
            one = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_authority(title: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return Authority(certify_authority(title, key, name(title), key), key)


def certify_authority(
    title: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    builder = start(name(title), issuer, key, -30 * DAY, 30 * DAY, None)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    usage = {"digital_signature": False, "content_commitment": False, "key_encipherment": False}
    usage |= {"data_encipherment": False, "key_agreement": False, "encipher_only": False, "decipher_only": False}
    builder = builder.add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
    return builder.sign(signer, hashes.SHA256())


def start(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: timedelta,
    ends: timedelta,
    serial: int | None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number() if serial is None else serial)
    return builder.not_valid_before(now + begins).not_valid_after(now + ends)


def name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def read_name(text: str) -> x509.GeneralName:
    """Read a name as what it looks like; with `uri:` or `dns:` in front as that, whatever it looks like."""
    if text.startswith("uri:"):
        return x509.UniformResourceIdentifier(text.removeprefix("uri:"))
    if text.startswith("dns:"):
        return x509.DNSName(text.removeprefix("dns:"))
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def as_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key from the end of a file that `issue` wrote."""
    key = serialization.load_pem_private_key(path.read_bytes().rpartition(b"-----END CERTIFICATE-----\n")[2], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
