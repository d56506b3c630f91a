"""Whether a chain of certificates leads to one that is trusted: DER bytes enter, the signer's key and dates leave.

The chain is built and checked by OpenSSL, as in model-signing, but without its gaps: it looks at the dates of the whole
chain (upstream asks only whether the chain was good on the first day of the signer's certificate), it takes no
certificate that plays no part, and one that is meant for something else, such as a web server, is no signer's.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, CryptographyDeprecationWarning),
    *(x509.InvalidVersion, x509.DuplicateExtension),
)
MAX_CERTIFICATES = 8
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL does not name; the dates are compared here


class NotTrusted(Exception):
    """Say, in words, why a chain does not lead to a trusted certificate."""


@dataclass(frozen=True)
class Chain:
    """A chain that leads to a trusted certificate.

    Valid from `valid_from` on, until just before `valid_until`; `fingerprints` are the SHA-256 of each certificate.
    """

    public_key: ec.EllipticCurvePublicKey
    subject: str
    valid_from: datetime
    valid_until: datetime
    fingerprints: frozenset[str]


def check_chain(given: Sequence[bytes], anchors: Sequence[x509.Certificate]) -> Chain:
    """Build the chain from the signer's certificate, the first one given, to one of the anchors.

    Raises:
        NotTrusted: there is no such chain, or the first certificate is not one that may sign.
    """
    if not 1 <= len(given) <= MAX_CERTIFICATES:
        raise NotTrusted(f"it carries {len(given)} certificates; one to {MAX_CERTIFICATES} are accepted")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CryptographyDeprecationWarning)  # forms that are only tolerated still
            return _check(given, anchors)
    except _UNREADABLE as error:
        raise NotTrusted("a certificate cannot be read") from error
    except crypto.Error as error:
        raise NotTrusted("the certificates cannot be checked") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256, as `openssl x509 -fingerprint -sha256` shows it, without colons."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _check(given: Sequence[bytes], anchors: Sequence[x509.Certificate]) -> Chain:
    certificates = [x509.load_der_x509_certificate(one) for one in given]
    chain = _build(certificates, anchors)
    if not set(certificates) <= {*chain, *anchors}:
        raise NotTrusted("it carries a certificate that plays no part")
    _check_usage(certificates[0])
    public_key = certificates[0].public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise NotTrusted("the signer's key is no elliptic-curve key")
    return Chain(
        public_key,
        certificates[0].subject.rfc4514_string(),
        max(one.not_valid_before_utc for one in chain),
        min(one.not_valid_after_utc for one in chain) + timedelta(seconds=1),  # the last second is included
        frozenset(fingerprint(one) for one in chain),
    )


def _build(certificates: list[x509.Certificate], anchors: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | NO_CHECK_TIME)  # every anchor is one, also below a root
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    signer, *others = [crypto.X509.from_cryptography(one) for one in certificates]
    try:
        chain = crypto.X509StoreContext(store, signer, others).get_verified_chain()
    except crypto.X509StoreContextError as error:
        raise NotTrusted(str(error)) from error
    return [x509.load_der_x509_certificate(one.to_cryptography().public_bytes(Encoding.DER)) for one in chain]


def _check_usage(certificate: x509.Certificate) -> None:
    """Require what says that it may sign, and nothing that says it is for something else (RFC 5280, 4.2.1.12)."""
    extensions = [one.value for one in certificate.extensions]
    usage = next((one for one in extensions if isinstance(one, x509.KeyUsage)), None)
    purposes = next((one for one in extensions if isinstance(one, x509.ExtendedKeyUsage)), None)
    if usage is None and purposes is None:
        raise NotTrusted("the signer's certificate does not say that it may sign (keyUsage: digitalSignature)")
    if usage is not None and not usage.digital_signature:
        raise NotTrusted("the signer's certificate may not sign (keyUsage lacks digitalSignature)")
    if purposes is not None and ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise NotTrusted("the signer's certificate is for something else (extendedKeyUsage lacks codeSigning)")
