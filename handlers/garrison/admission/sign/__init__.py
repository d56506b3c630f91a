"""Sign models and verify signatures, in the form of OpenSSF Model Signing.

`signing` makes keys and signatures, `verify` says who signed a directory and with which files. `trust` reads whose
signatures count; `bundle`, `certificates` and `contents` are the parts of a verification.
"""

from garrison.admission.sign.signing import (
    CertificateSigner,
    KeySigner,
    SigstoreSigner,
    ensure_development_key,
    generate_key,
    read_password,
    sign_directory,
)
from garrison.admission.sign.verify import Verified, verify_directory

__all__ = [
    "CertificateSigner",
    "KeySigner",
    "SigstoreSigner",
    "Verified",
    "ensure_development_key",
    "generate_key",
    "read_password",
    "sign_directory",
    "verify_directory",
]
