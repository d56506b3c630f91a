"""Sign a model: a packed directory and a key enter, the signature `model.sig` in it leaves.

The form is OpenSSF Model Signing's, made with the package `model-signing`, so that others' tools can verify our
signatures and we theirs. A signature covers every file of the directory but itself; nothing is left out.

It does not keep a private key safe: that is a file that only its owner can read, with a password where that is wanted.
"""

import fcntl
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from garrison.admission.sign.bundle import MAX_BUNDLE_BYTES, parse_bundle
from garrison.admission.sign.contents import list_files
from garrison.admission.sign.trust import DEVELOPMENT_MARK, FILE, MAX_PEM_BYTES
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.files import check_private, make_private_directory, read_file, write_atomically
from garrison.record import SIGNATURE_FILE

PASSWORD_VARIABLE = "GARRISON_SIGN_PASSWORD"  # noqa: S105 - the variable's name
DEVELOPMENT_DAYS = 3650
DEVELOPMENT_TRUST = """\
# Trusts the development key beside it, for every model. For set-ups on one machine; never for production.
unsafe_development: true
keys:
  development: {{public_key: development.pem, models: ["*"], valid_from: {first}, valid_until: {last}}}
"""


@dataclass(frozen=True)
class KeySigner:
    """Sign with a private key: PEM, on the curve P-256, P-384 or P-521."""

    private_key: Path
    password: str | None = None


@dataclass(frozen=True)
class CertificateSigner:
    """Sign with a private key whose owner a certificate names; `chain` leads from it to an authority. All PEM.

    The key has no password: model-signing takes none in this mode.
    """

    private_key: Path
    certificate: Path
    chain: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SigstoreSigner:
    """Sign as an identity (an e-mail address, a CI job) through Sigstore. Needs the internet; not run in our tests."""

    identity_token: str | None = None
    trust_config: Path | None = None


Signer = KeySigner | CertificateSigner | SigstoreSigner


def sign_directory(directory: Path, signer: Signer) -> Path:
    """Sign every file in a directory and write `model.sig` into it, in place of an earlier one; return its path.

    Raises:
        ArtifactRefused: something in the directory cannot be signed for.
        ConfigError: a key or certificate cannot be used, or the signature not be written.
        Undecided: Sigstore could not be asked.
    """
    directory = directory.resolve()
    _check_signable(directory)
    with tempfile.TemporaryDirectory(prefix="garrison-sign-") as name:
        draft = Path(name) / SIGNATURE_FILE
        _sign(directory, signer, draft)
        signature = read_file(draft, MAX_BUNDLE_BYTES + 1)
    parse_bundle(signature)  # or nobody who uses Garrison would take it
    write_atomically(directory / SIGNATURE_FILE, signature, 0o644)
    return directory / SIGNATURE_FILE


def read_password(file: Path | None) -> str | None:
    """Return a private key's password: a file's first line, or the variable GARRISON_SIGN_PASSWORD, or none.

    Raises:
        ConfigError: the file cannot be read, or others can read it.
    """
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    check_private(file)
    try:
        return read_file(file, 4096).decode().split("\n", 1)[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as a password; write it as one line of text") from error


def generate_key(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair: `<name>.key`, the private key that signs, and `<name>.pem`, the public one to be trusted.

    Raises:
        ConfigError: one of the files exists, or cannot be written.
    """
    paths = directory / f"{name}.key", directory / f"{name}.pem"
    for path in paths:
        if os.path.lexists(path):
            raise ConfigError(f"{path}: exists already; give another name, for what it signed would count no more")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be made ({error.strerror}); name one that you may write") from error
    _write_pair(*paths, mark=b"")
    return paths


def ensure_development_key(directory: Path) -> Path:
    """Return the private development key in a directory; make it if it is missing, with a trust.yaml that trusts it.

    Raises:
        ConfigError: other users can enter the directory, or it cannot be written.
    """
    make_private_directory(directory)
    private = directory / "development.key"
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two commands at once make one key
        if not private.exists():
            today = datetime.now(UTC).date()
            text = DEVELOPMENT_TRUST.format(first=today, last=today + timedelta(days=DEVELOPMENT_DAYS))
            write_atomically(directory / FILE, text.encode(), 0o600)
            mark = DEVELOPMENT_MARK + b": whoever uses the machine that made it can sign. Not for production.\n"
            _write_pair(private, directory / "development.pem", mark=mark)
    finally:
        os.close(lock)
    check_private(private)
    return private


def _check_signable(directory: Path) -> None:
    if not directory.is_dir():
        raise ConfigError(
            f"{directory}: no directory; give that of a packed model (a .mar is signed by `garrison pack`)"
        )
    names = list_files(directory, {SIGNATURE_FILE})
    if not names:
        raise ConfigError(f"{directory}: holds no files; give the directory of a packed model")
    unsafe = [name for name in names if name.endswith("/") or not name.isprintable() or "/." in f"/{name}"]
    if unsafe:
        detail = (
            f"{', '.join(sorted(unsafe))[:500]!a}: empty directories, dot files and unprintable names; take them out"
        )
        raise ArtifactRefused("unsafe_name", "Something in the directory cannot be signed for.", detail)


def _sign(directory: Path, signer: Signer, draft: Path) -> None:
    from model_signing import hashing, signing

    config: Any = signing.Config()  # type: ignore[no-untyped-call]
    # The signature itself is all that is left out, and what a verifier of model-signing's leaves out by default is not.
    hashed: Any = hashing.Config()  # type: ignore[no-untyped-call]
    config.set_hashing_config(hashed.set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False))
    if isinstance(signer, SigstoreSigner):
        _sign_by_sigstore(config, directory, signer, draft)
        return
    _check_private_key(signer.private_key)
    try:
        if isinstance(signer, KeySigner):
            password: Any = signer.password.encode() if signer.password else None  # upstream says str and needs bytes
            config.use_elliptic_key_signer(private_key=signer.private_key, password=password)
        else:
            config.use_certificate_signer(
                private_key=signer.private_key, signing_certificate=signer.certificate, certificate_chain=signer.chain
            )
        config.sign(directory, draft)
    except (ValueError, TypeError, OSError, UnsupportedAlgorithm) as error:
        advice = "give a private key (PEM, P-256), its password if it has one, and the certificates that belong to it"
        raise ConfigError(f"{signer.private_key}: cannot sign ({str(error)[:300]}); {advice}") from error


def _check_private_key(path: Path) -> None:
    """Check that a file is a private key, as far as its PEM heading says so, and is kept as one."""
    try:
        begin = read_file(path, MAX_PEM_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a private key") from error
    if b"PRIVATE KEY" not in begin:
        raise ConfigError(f"{path}: is no private key; give the one that signs, such as release-2026.key")
    check_private(path)


def _sign_by_sigstore(config: Any, directory: Path, signer: SigstoreSigner, draft: Path) -> None:
    from sigstore.errors import Error

    try:
        config.use_sigstore_signer(
            use_ambient_credentials=True, identity_token=signer.identity_token, trust_config=signer.trust_config
        ).sign(directory, draft)
    except (Error, ValueError, OSError) as error:
        raise Undecided(f"Sigstore could not be asked to sign ({str(error)[:300]}); it needs the internet") from error


def _write_pair(private_path: Path, public_path: Path, mark: bytes) -> None:
    """Write the public half first: where there is a private key, there is always its public one."""
    private = ec.generate_private_key(ec.SECP256R1())
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(public_path, mark + public_pem, 0o644)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomically(private_path, mark + pem, 0o600)
