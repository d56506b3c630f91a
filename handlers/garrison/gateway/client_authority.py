"""Who may issue client certificates, and which of them were revoked: two PEM files enter, checked text leaves.

Envoy checks certificates against both in the handshake. A connection may outlive that, so the serial numbers of what
was revoked go to identity.lua, too, which looks at each request. They count whichever of the authorities gave them out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from garrison.errors import ConfigError
from garrison.files import check_unchanged_by_others, read_file
from garrison.gateway.authentication import Mtls

_MOST_BYTES = 16 * 2**20
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class ClientAuthority:
    """What client certificates are checked against, in PEM; `covers_chain` if each authority has a list of its own."""

    certificates: str
    crl: str | None = None
    covers_chain: bool = False
    revoked: tuple[str, ...] = ()  # serial numbers, in small hexadecimal digits


def load_client_authority(mtls: Mtls, now: datetime | None = None) -> ClientAuthority:
    """Read the authorities and what they have revoked.

    Raises:
        ConfigError: a file is missing, not PEM, writable by others or out of date, or an authority is none.
    """
    moment = now or datetime.now(UTC)
    data = _read(mtls.authority, "authority")
    try:
        authorities = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigError(
            f"{mtls.authority}: holds no certificate in PEM; see authentication.mtls.authority"
        ) from error
    for authority in authorities:
        _check_authority(mtls.authority, authority, moment)
    if mtls.revoked is None:
        return ClientAuthority(_text(data))
    listed = _read(mtls.revoked, "revoked")
    lists = _load_lists(mtls.revoked, listed, authorities, moment)
    covered = {crl.issuer for crl in lists}
    serials = {format(one.serial_number, "x") for crl in lists for one in crl}
    covers_chain = all(authority.subject in covered for authority in authorities)
    return ClientAuthority(_text(data), _text(listed), covers_chain, tuple(sorted(serials)))


def _check_authority(path: Path, authority: x509.Certificate, now: datetime) -> None:
    name = authority.subject.rfc4514_string()
    try:
        may_issue = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        may_issue = False
    if not may_issue:
        raise ConfigError(f"{path}: {name} is no certificate authority; write who issues client certificates")
    if now >= authority.not_valid_after_utc:
        raise ConfigError(f"{path}: {name} expired on {authority.not_valid_after_utc:%Y-%m-%d}; replace it")


def _load_lists(
    path: Path, data: bytes, authorities: Sequence[x509.Certificate], now: datetime
) -> list[x509.CertificateRevocationList]:
    try:
        lists = [x509.load_pem_x509_crl(block) for block in _CRL.findall(data)]
    except ValueError as error:
        raise ConfigError(f"{path}: is damaged; fetch it from the authority anew") from error
    if not lists:
        raise ConfigError(f"{path}: holds no list of revoked certificates in PEM (X509 CRL)")
    for crl in lists:
        name = crl.issuer.rfc4514_string()
        if not any(_is_issued_by(crl, authority) for authority in authorities):
            raise ConfigError(f"{path}: the list of {name} was signed by none of authentication.mtls.authority")
        if crl.next_update_utc is not None and now >= crl.next_update_utc:
            ended = f"{crl.next_update_utc:%Y-%m-%d %H:%M} UTC"
            raise ConfigError(
                f"{path}: the list of {name} was good until {ended}; fetch the next one from the authority"
            )
    return lists


def _is_issued_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    if crl.issuer != authority.subject:
        return False
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        return False
    return crl.is_signature_valid(key)


def _read(path: Path, setting: str) -> bytes:
    try:
        data = read_file(path, _MOST_BYTES + 1)
    except OSError as error:
        advice = f"see authentication.mtls.{setting} in gateway.yaml"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    check_unchanged_by_others(path)
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: larger than {_MOST_BYTES} bytes")
    return data


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace")  # only what stands between the lines BEGIN and END counts
