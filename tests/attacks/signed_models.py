"""Small signed models, the keys and authorities that sign them, and policies that trust those."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from garrison.admission.sign import CertificateSigner, KeySigner, generate_key, sign_directory
from garrison.admission.sign.trust import Trust, load_trust

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MODEL = "digits"
FILES = {
    "contract.yaml": b"garrison: 1\nmodel: digits\nversion: '3'\n",
    "labels.json": b'{"0": "zero", "1": "one"}',
    "model.safetensors": bytes(range(256)) * 4,
    "MAR-INF/MANIFEST.json": b'{"runtime": "python"}',
}
DAYS = {"valid_from": "2026-01-01", "valid_until": "2027-01-01"}


def write_model(directory: Path, model: str = MODEL, **changed: bytes) -> Path:
    """Write a model's files; a keyword such as `labels_json` changes that file's bytes."""
    for name, data in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(changed.get(name.replace(".", "_"), data).replace(b"digits", model.encode()))
    return directory


def write_trust(directory: Path, keys: dict[str, dict[str, object]], **more: object) -> Trust:
    """Write a trust.yaml and read it; a key has the whole year 2026 and every model unless it says otherwise."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    filled = {name: {"models": ["*"], **DAYS, **values} for name, values in keys.items()}
    (directory / "trust.yaml").write_text(yaml.safe_dump({"keys": filled, **more}))
    (directory / "trust.yaml").chmod(0o644)
    return load_trust(directory)


@dataclass(frozen=True)
class Signed:
    """A signed model, and a policy that trusts its signer; `pem` is the public key or the authority's certificate."""

    directory: Path
    trust: Trust
    pem: Path

    @property
    def signature(self) -> Path:
        return self.directory / "model.sig"


def make_signed(place: Path, mode: str = "key", model: str = MODEL) -> Signed:
    """Make a model that our own `sign_directory` signed, by a key or by a certificate."""
    directory = write_model(place / model, model)
    keys = place / "keys"
    if mode == "key":
        private, public = generate_key(keys, "release")
        sign_directory(directory, KeySigner(private))
        return Signed(directory, write_trust(keys, {"release": {"public_key": public.name}}), public)
    authority = Authority(keys)
    sign_directory(directory, authority.certify("signer").signer)
    trust = write_trust(keys, {"partner": {"certificate_chain": authority.pem.name}})
    return Signed(directory, trust, authority.pem)


def upstream(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run the command line of the package model-signing."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@dataclass(frozen=True)
class Certified:
    """A private key and its certificate, below authorities."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    key_path: Path
    path: Path
    chain: tuple[Path, ...]

    @property
    def signer(self) -> CertificateSigner:
        return CertificateSigner(self.key_path, self.path, self.chain)


class Authority:
    """A certificate authority, with its certificate in `pem`; `above` makes it one below another."""

    def __init__(self, directory: Path, name: str = "authority", above: "Authority | None" = None) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._above = above
        made = self._make(name, usage=None, purposes=None, days=(-200, 400), issuer=above and above._made)
        self._made = made
        self.pem = made.path

    def certify(
        self,
        name: str,
        *,
        days: tuple[int, int] = (-100, 100),
        usage: bool | None = True,
        purposes: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.CODE_SIGNING,),
    ) -> Certified:
        """Make a signer's certificate; `days` are from and until NOW, `usage` is digitalSignature's bit."""
        return self._make(name, usage=usage, purposes=purposes, days=days, issuer=self._made, signer=True)

    def _make(
        self,
        name: str,
        *,
        usage: bool | None,
        purposes: Sequence[x509.ObjectIdentifier] | None,
        days: tuple[int, int],
        issuer: Certified | None,
        signer: bool = False,
    ) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=days[0]))
            .not_valid_after(NOW + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=not signer, path_length=None), critical=True)
        )
        if usage is not None or not signer:
            builder = builder.add_extension(_key_usage(sign=bool(usage), certify=not signer), critical=True)
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
        path, key_path = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        path.chmod(0o644)
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key_path.chmod(0o600)
        chain = (issuer.path, *issuer.chain) if issuer else ()
        return Certified(key, certificate, key_path, path, chain)


def _key_usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=not sign and not certify,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=certify,
        encipher_only=False,
        decipher_only=False,
    )
