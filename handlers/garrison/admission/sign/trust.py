"""Whose signatures count: `config/trust/trust.yaml` and the keys beside it enter, a policy leaves.

A policy names keys, certificate authorities and identities; each may sign for the models listed with it, from its first
day until its last. What is not named is not trusted, and a policy that names nothing refuses every model. A revoked key
or model is refused whatever else is said.

It does not defend against whoever can write these files; files that other users could change are refused.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from garrison.admission.sign.certificates import fingerprint
from garrison.contract import FILE_NAME
from garrison.errors import ArtifactRefused, ConfigError
from garrison.files import check_unchanged_by_others, read_file
from garrison.settings import Settings, load_settings

FILE = "trust.yaml"
MAX_PEM_BYTES = 256 * 1024
DEVELOPMENT_MARK = b"# Garrison development key"
CURVES = ("secp256r1", "secp384r1", "secp521r1")
KEY_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
MODEL_PATTERN = r"[A-Za-z0-9*][A-Za-z0-9_*-]{0,63}"
FINGERPRINT = r"[0-9a-fA-F]{64}|[0-9A-F]{2}(:[0-9A-F]{2}){31}"
TEXT = r"[\x21-\x7e]([\x20-\x7e]{0,510}[\x21-\x7e])?"
KINDS = ("public_key", "certificate_chain", "identity")


@dataclass(frozen=True)
class PublicKey:
    """An elliptic-curve key; `hint` is the SHA-256 of its PEM, by which a signature names it."""

    key: ec.EllipticCurvePublicKey
    hint: str


@dataclass(frozen=True)
class Authority:
    """Certificates whose holders, or those they certify, may sign; `subject` narrows it to one signer, if not empty."""

    certificates: tuple[x509.Certificate, ...]
    subject: str


@dataclass(frozen=True)
class Identity:
    """Whoever the provider says that they are this identity; `trust_config` is that of a private Sigstore, or None."""

    identity: str
    provider: str
    trust_config: Path | None


NOBODY = Identity("", "", None)  # stands in for a key that cannot be read, until the problems are told


@dataclass(frozen=True)
class TrustedKey:
    """A key, and the models it may sign for, from `valid_from` on until just before `valid_until` (UTC)."""

    name: str
    source: PublicKey | Authority | Identity
    models: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime


@dataclass(frozen=True)
class Claim:
    """A trusted key that may have made a signature: what names it, and its dates (a certificate has its own, too)."""

    key: TrustedKey
    signer: str
    public_key: ec.EllipticCurvePublicKey | None
    fingerprints: frozenset[str]
    valid_from: datetime
    valid_until: datetime


@dataclass(frozen=True)
class Trust:
    """The whole policy. `revoked_keys` holds names and fingerprints, `revoked_models` digests of models."""

    file: str
    keys: tuple[TrustedKey, ...]
    revoked_keys: frozenset[str]
    revoked_models: frozenset[str]
    unsafe_development: bool

    def check_claim(self, claim: Claim, now: datetime) -> None:
        """Check that a key is trusted at this moment, for any model.

        Raises:
            ArtifactRefused: it is revoked, not valid yet, or expired.
        """
        if {claim.key.name, *claim.fingerprints} & self.revoked_keys:
            raise self._refuse("revoked", "The model's signer is revoked.", f"{claim.signer} is revoked")
        if now < claim.valid_from:
            day = f"{claim.valid_from:%Y-%m-%d %H:%M} UTC"
            raise self._refuse(
                "not_yet_valid", "The signer is not valid yet.", f"{claim.signer} is valid from {day} on"
            )
        if now >= claim.valid_until:
            day = f"{claim.valid_until:%Y-%m-%d %H:%M} UTC"
            advice = "sign again with a key that is valid"
            raise self._refuse(
                "expired_key", "The signer has expired.", f"{claim.signer} was valid until {day}; {advice}"
            )

    def check_model(self, claim: Claim, model: str) -> None:
        """Check that a key may sign for a model; the name is empty where the contract could not be read.

        Raises:
            ArtifactRefused: it may not.
        """
        if not any(fnmatchcase(model, pattern) for pattern in claim.key.models):
            named = f"the model '{model}'" if model else "a model whose contract.yaml names none"
            detail = f"{claim.signer} may sign for {', '.join(claim.key.models)}, not for {named}"
            raise self._refuse("wrong_model", "The signer may not sign for this model.", detail)

    def check_digest(self, digest: str) -> None:
        """Check that a model, known by the digest of all its files, is not revoked.

        Raises:
            ArtifactRefused: it is.
        """
        if digest in self.revoked_models:
            raise self._refuse("revoked", "The model is revoked.", f"the model with the digest {digest} is revoked")

    def _refuse(self, reason: str, public_message: str, detail: str) -> ArtifactRefused:
        return ArtifactRefused(reason, public_message, f"{detail} (by {self.file})")


def load_trust(directory: Path) -> Trust:
    """Read a directory's `trust.yaml` and the keys that it names.

    Raises:
        ConfigError: with every problem of the files.
    """
    for path in (directory, directory / FILE):  # whoever can write here can trust anyone
        check_unchanged_by_others(path)
    settings = load_settings(directory / FILE)
    development = settings.flag("unsafe_development", default=False)
    keys = [
        _read_key(name, section, directory, development=development)
        for name, section in settings.section("keys", required=False).sections(KEY_NAME, "a name such as release-2026")
    ]
    revoked = settings.section("revoked", required=False)
    revoked_keys = revoked.texts("keys", f"{FINGERPRINT}|{KEY_NAME}", "a key's name or SHA-256", (), may_be_empty=True)
    models = revoked.texts("models", "[0-9a-f]{64}", "a model's digest, 64 digits", (), may_be_empty=True)
    _check_together(settings, revoked, keys, revoked_keys)
    settings.finish()
    names = {name for name in revoked_keys if name in {key.name for key in keys}}
    prints = {name.replace(":", "").lower() for name in revoked_keys if name not in names}
    return Trust(
        file=str(directory / FILE),
        keys=tuple(keys),
        revoked_keys=frozenset(names | prints | _prints_of(keys, names)),
        revoked_models=frozenset(models),
        unsafe_development=development,
    )


def hash_public_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a key's PEM, by which signatures name it."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _read_key(name: str, section: Settings, directory: Path, *, development: bool) -> TrustedKey:
    given = [kind for kind in KINDS if kind in section]
    if len(given) != 1:
        section.problem("", "name exactly one of public_key, certificate_chain, identity")
    source: PublicKey | Authority | Identity = NOBODY
    if "public_key" in section:
        source = _read_public_key(section, directory, development=development)
    if "certificate_chain" in section:
        source = _read_authority(section, directory)
    if "identity" in section:
        source = _read_identity(section, directory)
    key = TrustedKey(
        name=name,
        source=source,
        models=section.texts("models", MODEL_PATTERN, 'a model\'s name, or a pattern such as "fraud-*"'),
        valid_from=section.date("valid_from"),
        valid_until=section.date("valid_until"),
    )
    if section.sound("valid_from", "valid_until") and key.valid_from >= key.valid_until:
        section.problem("valid_until", "must be after valid_from; it is the first day on which the key counts no more")
    return key


def _read_public_key(section: Settings, directory: Path, *, development: bool) -> PublicKey | Identity:
    pem = _read_pem(section, "public_key", directory)
    if DEVELOPMENT_MARK in pem and not development:
        section.problem(
            "public_key",
            "is a development key, which anyone on the machine that made it can sign with; make a real one with "
            "`garrison sign --init`, or write `unsafe_development: true`",
        )
    try:
        key = load_pem_public_key(pem) if pem else None
    except (ValueError, UnsupportedAlgorithm):
        section.problem("public_key", "holds no public key in PEM form")
        return NOBODY
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        if key is not None:
            section.problem("public_key", f"is not an elliptic-curve key ({', '.join(CURVES)})")
        return NOBODY
    return PublicKey(key, hash_public_key(key))


def _read_authority(section: Settings, directory: Path) -> Authority:
    pem = _read_pem(section, "certificate_chain", directory)
    certificates: list[x509.Certificate] = []
    try:
        certificates = x509.load_pem_x509_certificates(pem) if pem else []
    except (ValueError, UnsupportedAlgorithm):
        section.problem("certificate_chain", "holds no certificates in PEM form")
    subject = _read_optional(section, "subject", TEXT, "a subject such as CN=release,O=Example")
    return Authority(tuple(certificates), subject)


def _read_identity(section: Settings, directory: Path) -> Identity:
    file = _read_optional(section, "trust_config", FILE_NAME, "the name of a file beside trust.yaml")
    if file:
        _read_file(section, "trust_config", directory / file)
    return Identity(
        identity=section.text("identity", TEXT, "an identity such as release@example.com"),
        provider=section.text("identity_provider", r"https://[\x21-\x7e]{1,500}", "the provider's https address"),
        trust_config=directory / file if file else None,
    )


def _read_optional(section: Settings, key: str, pattern: str, meaning: str) -> str:
    return section.text(key, pattern, meaning) if key in section else ""


def _read_pem(section: Settings, key: str, directory: Path) -> bytes:
    """Return a PEM file's bytes, or none after noting what is wrong with it."""
    name = section.text(key, FILE_NAME, "the name of a PEM file beside trust.yaml")
    pem = _read_file(section, key, directory / name) if name else b""
    if b"PRIVATE KEY" in pem:
        section.problem(key, f"{name} holds a private key, which has no place here; give the public one")
        return b""
    return pem


def _read_file(section: Settings, key: str, path: Path) -> bytes:
    try:
        check_unchanged_by_others(path)
        data = read_file(path, MAX_PEM_BYTES + 1)
    except ConfigError as error:
        section.problem(key, "; ".join(error.problems))
    except OSError as error:
        section.problem(key, f"{path}: cannot be read ({error.strerror})")
    else:
        if len(data) <= MAX_PEM_BYTES:
            return data
        section.problem(key, f"{path}: larger than {MAX_PEM_BYTES} bytes")
    return b""


def _check_together(
    settings: Settings, revoked: Settings, keys: list[TrustedKey], revoked_keys: tuple[str, ...]
) -> None:
    hints = [key.source.hint for key in keys if isinstance(key.source, PublicKey)]
    if len(set(hints)) != len(hints):
        settings.problem("keys", "two entries hold the same public key; write one, with the models of both")
    known = {key.name for key in keys}
    for name in revoked_keys:
        if name not in known and len(name.replace(":", "")) != 64:
            revoked.problem("keys", f"'{name}' is no name under keys; to revoke a key that is gone, write its SHA-256")


def _prints_of(keys: list[TrustedKey], names: set[str]) -> set[str]:
    """Return the fingerprints of keys: one that is revoked by its name is so under every name."""
    found: set[str] = set()
    for source in (key.source for key in keys if key.name in names):
        if isinstance(source, PublicKey):
            found.add(source.hint)
        elif isinstance(source, Authority):
            found |= {fingerprint(certificate) for certificate in source.certificates}
    return found
