"""Read what callers are verified with: settings and a directory of keys enter; what Envoy can hold leaves.

Everything is read and checked here, so that a file that is missing or damaged stops the rendering and nothing else: the
configuration that is in force stays so.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from garrison.gateway.client_authority import load_client_authority
from garrison.gateway.issuer import load_issuer_authority, load_issuer_keys
from garrison.gateway.keys import public_jwks, revoked_keys
from garrison.gateway.settings import GatewaySettings
from garrison.gateway.signing import PUBLIC_FILES
from garrison.gateway.source import Verification

KEYS_DIRECTORY = "keys"
Part = dict[str, Any]  # some fields of a `Verification`


def load_verification(settings: GatewaySettings, state: Path) -> Verification:
    """Read the keys, authorities and revocations that the accepted ways need; `state` is where `keys/` is.

    Raises:
        ConfigError: with what is wrong with the first file that cannot be used.
    """
    return join_parts(load(settings, state) for load in PARTS)


def join_parts(parts: Iterable[Part]) -> Verification:
    """Return what the loaders in `PARTS` have found, each its own."""
    found: Part = {"jwks": {"keys": []}}
    for part in parts:
        found |= part
    return Verification(**found)


def _load_keys(settings: GatewaySettings, state: Path) -> Part:
    if not settings.authentication.uses("key"):
        return {}
    directory = state / KEYS_DIRECTORY
    revoked = tuple(one.key_id for one in revoked_keys(directory))
    return {"jwks": public_jwks(directory), "revoked_keys": revoked}


def _load_issuer(settings: GatewaySettings, _: Path) -> Part:
    oidc = settings.authentication.oidc
    if oidc is None:
        return {}
    if oidc.jwks_file is None:
        return {"oidc_authority": load_issuer_authority(oidc.authority)}
    return {"oidc_jwks": load_issuer_keys(oidc.jwks_file, oidc.algorithms)}


def _load_callers(settings: GatewaySettings, _: Path) -> Part:
    mtls = settings.authentication.mtls
    return {} if mtls is None else {"clients": load_client_authority(mtls)}


PARTS: tuple[Callable[[GatewaySettings, Path], Part], ...] = (_load_keys, _load_issuer, _load_callers)


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
