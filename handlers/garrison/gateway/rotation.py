"""Change the key that signs API keys, without a moment in which keys do not work.

The new pair signs from now on; the old pair's public half stays for as long as a key that it signed is in force. The
old private half is gone. If it was stolen, its public half has to go, too, and with it every key that it signed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from garrison.errors import ConfigError
from garrison.gateway.key_audit import note, noting_what_was_done
from garrison.gateway.keys import MAX_LIFETIME
from garrison.gateway.ledger import Issued, hold, read_issued
from garrison.gateway.signing import (
    PUBLIC_FILE,
    PublicKeys,
    make_private,
    public_jwk,
    read_public,
    write_private,
    write_public,
)


@dataclass(frozen=True)
class SigningKey:
    """A pair; `ends_at` is None for the one that signs now, `unexpired` counts keys of it that have not expired."""

    key_id: str
    ends_at: datetime | None
    unexpired: int


def list_signing_keys(directory: Path, now: datetime | None = None) -> tuple[SigningKey, ...]:
    """Return the pairs whose keys the gateway takes, the present one first.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    moment = now or datetime.now(UTC)
    issued = _find_unexpired(directory, moment)
    return tuple(
        SigningKey(
            key["kid"],
            datetime.fromtimestamp(key["exp"], UTC) if "exp" in key else None,
            sum(one.signed_by == key["kid"] for one in issued),
        )
        for key in read_public(directory).valid(moment)
    )


def rotate_keys(directory: Path, now: datetime | None = None) -> tuple[SigningKey, ...]:
    """Make a new pair, and give each earlier one an end; return what `list_signing_keys` says then.

    Raises:
        ConfigError: there is no pair yet, or a file is damaged or cannot be written.
        Undecided: it cannot be written down in the audit log.
    """
    moment = now or datetime.now(UTC)
    with hold(directory):
        public, private = read_public(directory), make_private()
        issued = _find_unexpired(directory, moment)
        earlier = [
            key if "exp" in key else {**key, "exp": _find_end(key["kid"], public, issued, moment)}
            for key in public.valid(moment)
        ]
        kept = [key for key in earlier if key["exp"] > moment.timestamp()]
        note("signing_key_rotated", directory, signing_key=public_jwk(private)["kid"], before=public.keys[0]["kid"])
        # In this order: a gateway that reads in between knows all that may have signed.
        write_public(directory, PublicKeys((public_jwk(private), *kept), public.has_revocations, has_ledger=True))
        write_private(directory, private)
    return list_signing_keys(directory, moment)


def retire_key(directory: Path, key_id: str, now: datetime | None = None) -> SigningKey:
    """Take an earlier pair's public half out, so that no key that it signed works any more; return what it was.

    Raises:
        ConfigError: there is no such pair, it signs now, or the file cannot be written.
        Undecided: it is taken out, but it cannot be written down in the audit log.
    """
    moment = now or datetime.now(UTC)
    with hold(directory):
        known = {one.key_id: one for one in list_signing_keys(directory, moment)}
        if key_id not in known:
            names = ", ".join(known)
            raise ConfigError(f"{directory / PUBLIC_FILE}: holds no signing key {key_id[:80]!r}; it holds {names}")
        if known[key_id].ends_at is None:
            raise ConfigError(f"{key_id}: signs keys now; run `garrison keys rotate` first, then take it out")
        public = read_public(directory)
        kept = tuple(key for key in public.keys if key["kid"] != key_id)
        write_public(directory, PublicKeys(kept, public.has_revocations, public.has_ledger))
        with noting_what_was_done(f"{key_id} is taken out"):
            note("signing_key_retired", directory, signing_key=key_id, unexpired=known[key_id].unexpired)
    return known[key_id]


def _find_unexpired(directory: Path, now: datetime) -> list[Issued]:
    return [one for one in read_issued(directory) if one.expires_at > now]


def _find_end(key_id: str, public: PublicKeys, issued: list[Issued], now: datetime) -> int:
    """Return when the last key that a pair has signed expires, in seconds; a year on, if not all are written down."""
    ends = [one.expires_at for one in issued if one.signed_by == key_id]
    last = max(ends, default=now) if public.has_ledger else now + MAX_LIFETIME
    return int(last.timestamp())
