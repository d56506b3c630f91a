"""Read what callers are verified with: settings and a directory of keys enter; text that Envoy can hold leaves.

Everything is read and checked here, so that a file that is missing or damaged stops the rendering and nothing else: the
configuration that is in force stays so.
"""

from pathlib import Path

from garrison.gateway.keys import public_jwks, revoked_keys
from garrison.gateway.settings import GatewaySettings
from garrison.gateway.source import Verification


def load_verification(settings: GatewaySettings, state: Path) -> Verification:
    """Read the public keys and revocations that the accepted ways need; `state` is where `keys/` is.

    Raises:
        ConfigError: with what is wrong with the first file that cannot be used.
    """
    if not settings.authentication.uses("key"):
        return Verification({"keys": []})
    directory = state / "keys"
    return Verification(jwks=public_jwks(directory), revoked_keys=tuple(one.key_id for one in revoked_keys(directory)))
