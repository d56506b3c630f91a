"""Take API keys back before they expire: ids enter, the file that the gateway reads changes, all at once."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from garrison.errors import ConfigError
from garrison.gateway.key_audit import note, noting_what_was_done
from garrison.gateway.keys import MAX_LIFETIME, revoked_keys
from garrison.gateway.ledger import ISSUED_FILE, KEY_ID, Issued, Revoked, hold, is_over, read_issued, write_revoked
from garrison.gateway.signing import PublicKeys, read_public, write_public

MOST_REASON = 200


def revoke_keys(
    directory: Path,
    key_ids: Sequence[str],
    client: str = "",
    reason: str = "",
    *,
    unlisted: bool = False,
    now: datetime | None = None,
) -> tuple[Revoked, ...]:
    """Revoke keys by their ids, and every key in force of a client if one is named; return those that were not yet.

    `unlisted` allows ids of which nothing is known here, such as those of a ledger that got lost.

    Raises:
        ConfigError: an id is none or unknown, the client has no key, or a file is damaged or cannot be written; then
            nothing is revoked.
        Undecided: the keys are revoked, but it cannot be written down in the audit log.
    """
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    with hold(directory):
        issued = {one.key_id: one for one in read_issued(directory)}
        before = revoked_keys(directory)
        wanted = [*dict.fromkeys(key_ids), *_find_of(client, issued, moment)]
        _check(directory, wanted, issued, client, reason, unlisted=unlisted)
        known = {one.key_id for one in before}
        new = [_revoke(key_id, issued.get(key_id), moment, reason) for key_id in dict.fromkeys(wanted)]
        added = tuple(one for one in new if one.key_id not in known and not is_over(one.expires_at, moment))
        write_revoked(directory, [*before, *added], moment)
        public = read_public(directory)
        if not public.has_revocations:  # from now on the file must not be missing
            write_public(directory, PublicKeys(public.keys, has_ledger=public.has_ledger))
        with noting_what_was_done("the keys are revoked"):
            for one in added:
                note("key_revoked", directory, key_id=one.key_id, client=one.client, reason=one.reason)
    return added


def _find_of(client: str, issued: dict[str, Issued], now: datetime) -> list[str]:
    mine = [one for one in issued.values() if client and one.client == client]
    return [one.key_id for one in mine if not is_over(one.expires_at, now)]


def _check(
    directory: Path, wanted: Sequence[str], issued: dict[str, Issued], client: str, reason: str, *, unlisted: bool
) -> None:
    path = directory / ISSUED_FILE
    problems = [f"{key_id[:80]!r} is no key's id: 32 of 0-9 and a-f" for key_id in wanted if not _is_id(key_id)]
    if not unlisted:
        advice = "see `garrison keys list --all`, or write --unlisted if it was issued elsewhere"
        unknown = [key_id for key_id in wanted if _is_id(key_id) and key_id not in issued]
        problems += [f"{path}: holds no key {key_id}; {advice}" for key_id in unknown]
    if not wanted:
        found = f"{path}: holds no key of {client!r} that is in force" if client else "name a key's id, or a --client"
        problems.append(found)
    if len(reason) > MOST_REASON:
        problems.append(f"--reason: longer than {MOST_REASON} characters; write a word and where the rest stands")
    if problems:
        raise ConfigError(*problems)


def _is_id(text: str) -> bool:
    return re.fullmatch(KEY_ID, text) is not None


def _revoke(key_id: str, issued: Issued | None, now: datetime, reason: str) -> Revoked:
    if issued is None:
        return Revoked(key_id, "", now + MAX_LIFETIME, now, reason)
    return Revoked(key_id, issued.client, issued.expires_at, now, reason)
