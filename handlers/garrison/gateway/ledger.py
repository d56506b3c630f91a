"""What was issued and what was revoked: key tokens' ids enter, two files beside the signing key remember them.

`issued.jsonl` grows by a line for each key, never with the key itself, and is for whoever issues keys. `revoked.json`
is for the gateway, and holds a revoked key's id until the key has expired by anybody's clock.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from garrison.errors import ConfigError
from garrison.files import check_private, check_unchanged_by_others, read_file, write_atomically

ISSUED_FILE, REVOKED_FILE, LOCK_FILE = "issued.jsonl", "revoked.json", ".lock"
KEY_ID = r"[0-9a-f]{32}"
CLOCKS_DIFFER = timedelta(days=1)  # at most, that of who revokes and that of a gateway
_MOST_BYTES = 64 * 2**20  # some 200,000 keys
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Issued:
    """A key token that was issued, without the token; `signed_by` names the signing key (`kid`)."""

    key_id: str
    client: str
    scopes: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    signed_by: str


@dataclass(frozen=True)
class Revoked:
    """A key token that counts no more, until `expires_at`, when it would have ended by itself."""

    key_id: str
    client: str
    expires_at: datetime
    revoked_at: datetime
    reason: str


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Keep other commands from changing the directory for as long as the block takes.

    Raises:
        ConfigError: the directory cannot be written.
    """
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); run `garrison keys init`") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def start_ledger(directory: Path) -> None:
    """Make the file of what was issued, if there is none: from its first key on nothing is missing in it.

    Raises:
        ConfigError: the file cannot be written.
    """
    if not (directory / ISSUED_FILE).exists():
        write_atomically(directory / ISSUED_FILE, b"", mode=0o600)


def note_issued(directory: Path, issued: Issued) -> None:
    """Write down a key before anybody gets it.

    Raises:
        ConfigError: the file cannot be written, or others could.
    """
    path = directory / ISSUED_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            check_private(path)
            file.write(json.dumps(_show(issued)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def read_issued(directory: Path) -> tuple[Issued, ...]:
    """Return every key that was issued here, in order; none if the file is not there.

    Raises:
        ConfigError: the file is damaged, or others could have written it.
    """
    path = directory / ISSUED_FILE
    if not path.exists():
        return ()
    data = _read(path)
    check_private(path)
    return tuple(
        _parse(path, f"line {number}", line, _read_issued) for number, line in enumerate(data.splitlines(), start=1)
    )


def read_revoked(directory: Path, *, required: bool) -> tuple[Revoked, ...]:
    """Return the revoked keys; a file that is missing is an error if it is `required`.

    Raises:
        ConfigError: it is missing, damaged, or others could have written it: nobody may pass for that.
    """
    path = directory / REVOKED_FILE
    if not required and not path.exists():
        return ()
    data = _read(path)
    check_unchanged_by_others(path)
    return _parse(path, "the file", data, lambda value: tuple(_read_revoked(one) for one in value["revoked"]))


def write_revoked(directory: Path, revoked: Sequence[Revoked], now: datetime | None = None) -> None:
    """Write the revoked keys all at once, without those that have expired everywhere.

    Raises:
        ConfigError: the file cannot be written.
    """
    kept = [_show(one) for one in revoked if not is_over(one.expires_at, now or datetime.now(UTC))]
    write_atomically(directory / REVOKED_FILE, json.dumps({"revoked": kept}, indent=2).encode() + b"\n", mode=0o644)


def is_over(expires_at: datetime, now: datetime) -> bool:
    """Say whether a key has expired by every gateway's clock; before that, a revocation is of use."""
    return expires_at + CLOCKS_DIFFER <= now


def _read(path: Path) -> bytes:
    try:
        data = read_file(path, _MOST_BYTES + 1)
    except OSError as error:
        advice = "copy it from where keys are revoked" if path.name == REVOKED_FILE else "look at who may read it"
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: larger than {_MOST_BYTES} bytes")
    return data


def _parse(path: Path, where: str, data: bytes, read: Callable[[Any], _Value]) -> _Value:
    try:
        return read(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: {where} is damaged ({error!r}); restore the file") from error


def _show(record: Issued | Revoked) -> dict[str, Any]:
    return {name: _text(value) for name, value in dataclasses.asdict(record).items()}


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _read_issued(value: Any) -> Issued:
    return Issued(
        key_id=_read_id(value["key_id"]),
        client=str(value["client"]),
        scopes=tuple(str(scope) for scope in value["scopes"]),
        issued_at=_read_time(value["issued_at"]),
        expires_at=_read_time(value["expires_at"]),
        signed_by=str(value["signed_by"]),
    )


def _read_revoked(value: Any) -> Revoked:
    return Revoked(
        key_id=_read_id(value["key_id"]),
        client=str(value["client"]),
        expires_at=_read_time(value["expires_at"]),
        revoked_at=_read_time(value["revoked_at"]),
        reason=str(value["reason"]),
    )


def _read_id(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(KEY_ID, value):
        raise ValueError(f"{value!r} is no key's id")
    return value


def _read_time(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return moment
