"""Read what callers are verified with: settings and a directory of keys enter; what Envoy can hold leaves.

Everything is read and checked here, so that a file that is missing or damaged stops the rendering and nothing else: the
configuration that is in force stays so.
"""

from pathlib import Path
from typing import Any

from garrison.gateway.client_authority import load_client_authority
from garrison.gateway.issuer import load_issuer_authority, load_issuer_keys
from garrison.gateway.keys import public_jwks, revoked_keys
from garrison.gateway.settings import GatewaySettings
from garrison.gateway.signing import PUBLIC_FILES
from garrison.gateway.source import Verification

KEYS_DIRECTORY = "keys"


def load_verification(settings: GatewaySettings, state: Path) -> Verification:
    """Read the keys, authorities and revocations that the accepted ways need; `state` is where `keys/` is.

    Raises:
        ConfigError: with what is wrong with the first file that cannot be used.
    """
    authentication, directory = settings.authentication, state / KEYS_DIRECTORY
    found: dict[str, Any] = {"jwks": {"keys": []}}
    if authentication.uses("key"):
        found["jwks"] = public_jwks(directory)
        found["revoked_keys"] = tuple(one.key_id for one in revoked_keys(directory))
    if authentication.oidc is not None:
        oidc = authentication.oidc
        if oidc.jwks_file is not None:
            found["oidc_jwks"] = load_issuer_keys(oidc.jwks_file, oidc.algorithms)
        else:
            found["oidc_authority"] = load_issuer_authority(oidc.authority)
    if authentication.mtls is not None:
        found["clients"] = load_client_authority(authentication.mtls)
    return Verification(**found)


def verification_files(settings: GatewaySettings, state: Path) -> tuple[Path, ...]:
    """Return the files that `load_verification` reads: a change of one is a reason to render again."""
    authentication = settings.authentication
    files: list[Path | None] = []
    if authentication.uses("key"):
        files += [state / KEYS_DIRECTORY / name for name in PUBLIC_FILES]
    if authentication.oidc is not None:
        files += [authentication.oidc.jwks_file, authentication.oidc.authority]
    if authentication.mtls is not None:
        files += [authentication.mtls.authority, authentication.mtls.revoked]
    return tuple(path for path in files if path is not None)
