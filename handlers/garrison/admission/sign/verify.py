"""Verify a model's signature: a directory with `model.sig` enters, the digests of all its files leave, or a refusal.

Everything in the directory has to be signed for by somebody who is trusted, now, for this model. The steps stand in
`verify_directory`. The signature's form, cryptography and list of files are checked here, more strictly than by
model-signing, which takes older and looser forms, skips what the signer chose to leave out and knows no dates.

What is returned is the digests of the bytes that were read; whoever uses a file later compares it with them (see
`garrison.record`), for it may have been changed meanwhile.
"""

import hashlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from garrison.admission.settings import MAX_BYTES
from garrison.admission.sign.bundle import (
    CERTIFICATE,
    KEY,
    MAX_BUNDLE_BYTES,
    Bundle,
    Statement,
    encode_signed,
    parse_bundle,
    parse_statement,
)
from garrison.admission.sign.certificates import NotTrusted, check_chain
from garrison.admission.sign.contents import Progress, hash_files, list_files, refuse_tampered, refuse_unread
from garrison.admission.sign.trust import Authority, Claim, Identity, PublicKey, Trust, hash_public_key
from garrison.archive import CONTRACT_FILE
from garrison.contract import MODEL_NAME
from garrison.errors import ArtifactRefused, ConfigError, Undecided
from garrison.files import read_file
from garrison.record import SIGNATURE_FILE, RecordedFile, digest_files
from garrison.settings import MAX_FILE_BYTES, parse_settings

HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True)
class Verified:
    """A model that somebody trusted has signed for.

    `signer` is the key's name in trust.yaml, for a certificate with its subject; `digest` is that of all files
    together; `mode` is key, certificate or sigstore.
    """

    signer: str
    files: Mapping[str, RecordedFile]
    digest: str
    signature_sha256: str
    mode: str


def verify_directory(
    directory: Path,
    trust: Trust,
    *,
    now: datetime,
    progress: Progress | None = None,
    beside: Set[str] = frozenset(),
    max_bytes: int = MAX_BYTES,
) -> Verified:
    """Verify that everything in a directory was signed by somebody who is trusted for it at this moment.

    `progress` hears how many more bytes were read, from several threads, never two at once; `beside` names files that
    the signature need not cover.

    Raises:
        ArtifactRefused: a step refused; the reason is its code.
        Undecided: a file, or Sigstore's trust root, cannot be read.
    """
    raw = _read_signature(directory)  # 1 the signature, its bytes once, in the one form it has
    bundle = parse_bundle(raw)
    claims = find_claims(bundle, trust)  # 2 who of those that are trusted could have made it
    claims = [claim for claim in claims if _is_good(bundle, claim)]  # 3 and did
    if not claims:
        raise ArtifactRefused(
            "bad_signature", "The model's signature is wrong.", f"{SIGNATURE_FILE}: is not over what it says it is"
        )
    claims = _keep(claims, lambda claim: trust.check_claim(claim, now))  # 4 and is trusted now
    statement = parse_statement(bundle.payload)  # 5 every file by SHA-256, none left out
    model = _read_model_name(directory, statement)
    claim = _keep(claims, lambda claim: trust.check_model(claim, model))[0]  # 6 for this model
    found = list_files(directory, {SIGNATURE_FILE, *beside})  # 7 there is what was signed, and nothing else
    _compare_names(found, statement)
    files = hash_files(directory, found, max_bytes, progress)  # 8 and it has the bytes that were signed
    _compare_digests(files, statement)
    digest = digest_files(files)
    trust.check_digest(digest)  # 9 and is not revoked
    return Verified(claim.signer, files, digest, hashlib.sha256(raw).hexdigest(), bundle.mode)


def find_claims(bundle: Bundle, trust: Trust) -> list[Claim]:
    """Return the trusted keys that a signature may be from.

    Raises:
        ArtifactRefused: there is none.
    """
    if not trust.keys:
        advice = f"write a key into {trust.file}; see docs/howto.md"
        raise ArtifactRefused("untrusted", "The signer is not trusted.", f"nobody is trusted yet: {advice}")
    claims: list[Claim] = []
    problems = []
    for key in trust.keys:
        try:
            if bundle.mode == KEY and isinstance(key.source, PublicKey) and key.source.hint == bundle.hint:
                prints = frozenset({bundle.hint})
                claims.append(Claim(key, key.name, key.source.key, prints, key.valid_from, key.valid_until))
            elif bundle.mode == CERTIFICATE and isinstance(key.source, Authority):
                chain = check_chain(bundle.certificates, key.source.certificates)
                if key.source.subject not in ("", chain.subject):
                    raise NotTrusted(f"its subject is {chain.subject}, not {key.source.subject}")
                prints = chain.fingerprints | {hash_public_key(chain.public_key)}
                dates = max(key.valid_from, chain.valid_from), min(key.valid_until, chain.valid_until)
                claims.append(Claim(key, f"{key.name} ({chain.subject})", chain.public_key, prints, *dates))
            elif bundle.mode not in (KEY, CERTIFICATE) and isinstance(key.source, Identity):
                claims.append(Claim(key, key.name, None, frozenset(), key.valid_from, key.valid_until))
        except NotTrusted as error:
            problems.append(f"not by {key.name}: {error}")
    if not claims:
        who = f"the key with the SHA-256 {bundle.hint}" if bundle.hint else f"somebody unknown (mode {bundle.mode})"
        detail = "; ".join([f"signed by {who}, whom {trust.file} does not trust", *problems])
        raise ArtifactRefused("untrusted", "The signer is not trusted.", detail)
    return claims


def _read_signature(directory: Path) -> bytes:
    path = directory / SIGNATURE_FILE
    try:
        if path.is_symlink():
            raise ArtifactRefused("not_a_file", "The signature is no plain file.", f"{path}: is a link")
        return read_file(path, MAX_BUNDLE_BYTES + 1)
    except PermissionError as error:
        raise refuse_unread(str(path), error) from error
    except OSError as error:
        advice = "use `garrison sign`, or pack it with --sign-key (an archive of stock's: with --from, too)"
        detail = f"{SIGNATURE_FILE}: {error.strerror}; {advice}"
        raise ArtifactRefused("unsigned", "The model is not signed.", detail) from error


def _is_good(bundle: Bundle, claim: Claim) -> bool:
    if claim.public_key is None:
        return _is_good_sigstore(bundle, claim.key.source)
    algorithm = HASHES.get(claim.public_key.curve.name)
    if algorithm is None:
        return False
    try:
        claim.public_key.verify(bundle.signature, encode_signed(bundle.payload), ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _is_good_sigstore(bundle: Bundle, source: object) -> bool:
    """Ask sigstore whether an identity made a signature. Needs the internet for its trust root; not run."""
    from sigstore.errors import Error, VerificationError
    from sigstore.models import Bundle as SigstoreBundle
    from sigstore.models import ClientTrustConfig
    from sigstore.verify import Verifier, policy

    if not isinstance(source, Identity):
        return False
    try:
        config = (
            ClientTrustConfig.from_json(source.trust_config.read_text())
            if source.trust_config
            else ClientTrustConfig.production()
        )
        wanted = policy.Identity(identity=source.identity, issuer=source.provider)
        kind, payload = Verifier(trusted_root=config.trusted_root).verify_dsse(
            SigstoreBundle.from_json(bundle.raw), wanted
        )
    except VerificationError:
        return False
    except (Error, OSError, ValueError) as error:
        raise Undecided(f"Sigstore's trust root cannot be read: {error}") from error
    return kind == "application/vnd.in-toto+json" and payload == bundle.payload


def _keep(claims: list[Claim], check: Callable[[Claim], None]) -> list[Claim]:
    """Return the claims that pass; if none does, refuse for the reason of the first."""
    kept, refused = [], []
    for claim in claims:
        try:
            check(claim)
        except ArtifactRefused as refusal:
            refused.append(refusal)
        else:
            kept.append(claim)
    if not kept:
        raise refused[0]
    return kept


def _read_model_name(directory: Path, statement: Statement) -> str:
    """Return the model's name by its contract, from bytes that were signed; empty where there is none."""
    if CONTRACT_FILE not in statement.files:
        return ""
    try:
        data = read_file(directory / CONTRACT_FILE, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise refuse_unread(CONTRACT_FILE, error) from error
    if len(data) > MAX_FILE_BYTES:
        return ""
    if hashlib.sha256(data).hexdigest() != statement.files[CONTRACT_FILE]:
        raise refuse_tampered(CONTRACT_FILE, "is not what was signed")
    try:
        return parse_settings(data, CONTRACT_FILE).text("model", MODEL_NAME, "a name")
    except ConfigError:
        return ""


def _compare_names(found: Mapping[str, int], statement: Statement) -> None:
    if uncovered := sorted(found.keys() - statement.files.keys()):
        detail = f"{', '.join(uncovered)[:500]}: not signed for; take it out, or sign the model again"
        raise ArtifactRefused("uncovered_file", "The signature does not cover every file.", detail)
    if missing := sorted(statement.files.keys() - found.keys()):
        raise refuse_tampered(", ".join(missing)[:500], "was signed for and is missing")
    if unsafe := sorted(name for name in found if not name.isprintable() or "/." in f"/{name}"):
        detail = f"{', '.join(unsafe)[:500]!a}: dot files and unprintable names are never part of a model"
        raise ArtifactRefused("unsafe_name", "A file's name is not accepted.", detail)


def _compare_digests(files: Mapping[str, RecordedFile], statement: Statement) -> None:
    if changed := [name for name, one in files.items() if one.sha256 != statement.files[name]]:
        raise refuse_tampered(", ".join(changed)[:500], "is not what was signed")
