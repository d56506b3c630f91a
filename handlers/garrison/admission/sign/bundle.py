"""What a signature file says: its bytes enter, their parts leave, if every byte is as it must be.

The form is OpenSSF Model Signing's, as the package `model-signing` writes it: a Sigstore bundle (v0.3) around a DSSE
envelope around an in-toto statement, which lists every file of the model with its digest.

A bundle is accepted only in the one form in which it is written. What JSON, base64 and lenient readers would let vary
(spaces, escapes, order, repeated or unknown keys, padding bits) is fixed by writing the parts again and comparing all
bytes; so no bit of the file is without a meaning. It does not say whether the signature is good: `verify` does.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from garrison.errors import ArtifactRefused, Undecided
from garrison.record import SIGNATURE_FILE

MAX_BUNDLE_BYTES = 8 * 2**20  # a statement of about 30,000 files
KEY, CERTIFICATE, SIGSTORE = "key", "certificate", "sigstore"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# An upstream signer always leaves these out. Nothing of them may be in the directory, so nothing is left uncovered.
TOLERATED_IGNORES = frozenset({SIGNATURE_FILE, ".git", ".gitattributes", ".github", ".gitignore"})
_DIGEST = re.compile("[0-9a-f]{64}")
_Faults = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Bundle:
    """The parts of a signature file.

    `hint` is the SHA-256 of the public key's PEM (mode key); `certificates` are DER, the signer's first (mode
    certificate); in mode sigstore only `raw` is complete.
    """

    raw: bytes
    mode: str
    payload: bytes
    signature: bytes
    hint: str = ""
    certificates: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Statement:
    """What was signed: the SHA-256 of every file, by its name relative to the model's directory."""

    files: Mapping[str, str]


def parse_bundle(raw: bytes) -> Bundle:
    """Take a signature file apart.

    Raises:
        Undecided: it is an identity's, and sigstore is not installed.
        ArtifactRefused: it is not, byte for byte, what model-signing writes.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise _not_a_bundle(f"larger than {MAX_BUNDLE_BYTES} bytes")
    try:
        bundle = _read_bundle(raw, json.loads(raw.decode()))
        written = _write_sigstore(raw) if bundle.mode == SIGSTORE else _write_bundle(bundle)
    except _Faults as error:
        raise _not_a_bundle("not a Sigstore bundle with one signature") from error
    if written != raw:
        raise _not_a_bundle("not in the form in which it is written; it was edited, or made by another tool")
    return bundle


def parse_statement(payload: bytes) -> Statement:
    """Read what was signed. Call it only after the signature was found good.

    Raises:
        ArtifactRefused: it does not list files by SHA-256, or leaves paths out.
    """
    try:
        values = json.loads(payload.decode(), object_pairs_hook=_refuse_repeated)
        predicate = values["predicate"]
        _check_kind(values, predicate["serialization"])
        files = _read_files(predicate["resources"])
        [subject] = values["subject"]
        together = hashlib.sha256(b"".join(bytes.fromhex(row["digest"]) for row in predicate["resources"]))
        if subject["digest"] != {"sha256": together.hexdigest()}:
            raise ValueError("the digest over all files is another")
    except _Faults as error:
        raise _unsupported(f"the signed statement cannot be used ({error})") from error
    return Statement(files)


def encode_signed(payload: bytes) -> bytes:
    """Return the bytes that a signature is made over: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _read_bundle(raw: bytes, values: Any) -> Bundle:
    material, envelope = values["verificationMaterial"], values["dsseEnvelope"]
    [signature] = envelope["signatures"]
    payload, signed = _decode(envelope["payload"]), _decode(signature["sig"])
    if "publicKey" in material:
        hint = material["publicKey"]["hint"]
        if not _DIGEST.fullmatch(hint):
            raise ValueError("no digest of a key")
        return Bundle(raw, KEY, payload, signed, hint=hint)
    if "x509CertificateChain" in material:
        rows = material["x509CertificateChain"]["certificates"]
        return Bundle(raw, CERTIFICATE, payload, signed, certificates=tuple(_decode(row["rawBytes"]) for row in rows))
    if "certificate" in material:
        return Bundle(raw, SIGSTORE, payload, signed)
    raise ValueError("neither a key nor certificates")


def _write_bundle(bundle: Bundle) -> bytes:
    """Write the parts as model-signing does: compact JSON, in its order of keys."""
    if bundle.mode == KEY:
        signer: dict[str, Any] = {"publicKey": {"hint": bundle.hint}}
    else:
        rows = [{"rawBytes": _encode(certificate)} for certificate in bundle.certificates]
        signer = {"x509CertificateChain": {"certificates": rows}}
    values = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {**signer, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _encode(bundle.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _encode(bundle.signature), "keyid": ""}],
        },
    }
    return json.dumps(values, separators=(",", ":")).encode()


def _write_sigstore(raw: bytes) -> bytes:
    try:
        from sigstore.models import Bundle as SigstoreBundle
        from sigstore.models import InvalidBundle
    except ImportError as error:
        what = "the model is signed by an identity, and sigstore, which verifies those, is not installed here"
        raise Undecided(f"{SIGNATURE_FILE}: {what} (the model server's image has none); sign it with a key") from error

    try:
        return SigstoreBundle.from_json(raw).to_json().encode()
    except InvalidBundle as error:
        raise ValueError("not a Sigstore bundle") from error


def _check_kind(values: Any, serialization: Any) -> None:
    if values["_type"] != STATEMENT_TYPE or values["predicateType"] != PREDICATE_TYPE:
        raise ValueError("it is no statement of model-signing 1.0 or newer")
    if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
        raise ValueError("only whole files and sha256 are accepted")
    ignored = [str(path) for path in serialization.get("ignore_paths", [])]
    if left_out := sorted(set(ignored) - TOLERATED_IGNORES):
        raise ArtifactRefused(
            "ignored_paths",
            "The signature leaves files out.",
            f"{SIGNATURE_FILE}: the signer left out {', '.join(left_out)[:200]}; sign again without --ignore-paths",
        )


def _read_files(rows: Any) -> dict[str, str]:
    files = {row["name"]: row["digest"] for row in rows}
    if len(files) != len(rows) or any(row["algorithm"] != "sha256" for row in rows):
        raise ValueError("a file stands twice, or is not listed by sha256")
    if not files or not all(isinstance(name, str) and _DIGEST.fullmatch(digest) for name, digest in files.items()):
        raise ValueError("no list of files and digests")
    return files


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _not_a_bundle(what: str) -> ArtifactRefused:
    return ArtifactRefused(
        "bad_signature", "The model's signature is not usable.", f"{SIGNATURE_FILE}: {what}; sign the model again"
    )


def _unsupported(what: str) -> ArtifactRefused:
    return ArtifactRefused(
        "unsupported_signature",
        "The model is signed in a way that is not accepted.",
        f"{SIGNATURE_FILE}: {what}; sign again with `garrison sign`, or with model_signing's default options",
    )
