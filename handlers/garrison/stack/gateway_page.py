"""What the gateway's launcher tells Prometheus besides its counts: what Envoy says now, and what stands in files.

Envoy is asked for a few kilobytes, whatever number of clients there is; what it does not answer in time is left out.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from cryptography import x509

from garrison.errors import ConfigError, Undecided
from garrison.gateway import admin
from garrison.gateway.budget.plan import Plan
from garrison.gateway.budget.used import read_used
from garrison.gateway.ledger import ISSUED_FILE, REVOKED_FILE, read_issued, read_revoked
from garrison.gateway.replies import BUDGET_REPLIES, OTHER, REPLIES
from garrison.stack.watched import Signs, sign_files
from garrison.watch import families
from garrison.watch.series import Series

REASONS = tuple(sorted({reply.reason for reply in (*REPLIES.values(), *BUDGET_REPLIES.values(), OTHER)}))
UNSAFE_REDIS = "unsafe_redis"
_DAY_S = 86_400
Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """What stands in files, read anew only where they have changed."""

    def __init__(self, files: Iterable[Path], read: Callable[[], Value]) -> None:
        self._files, self._read = tuple(files), read
        self._signs: Signs | None = None

    def get(self) -> Value:
        """Return what stands there now."""
        signs = sign_files(self._files)
        if signs != self._signs:
            self._value, self._signs = self._read(), signs
        return self._value


def measure_servers(admin_socket: Path, names: Mapping[tuple[str, str], str]) -> Iterator[tuple[Series, float]]:
    """Go through the servers and guards: what each has to do, and whether it takes requests by every way."""
    found: dict[tuple[str, str], admin.Server] = {}
    with contextlib.suppress(Undecided):
        found = admin.list_servers(admin_socket)
    for name in dict.fromkeys(names.values()):
        ways = [found[key] for key, named in names.items() if named == name and key in found]
        if ways:
            yield (families.GATEWAY_PROGRESS.name, (name,)), sum(way.active for way in ways)
            yield (families.GATEWAY_HEALTHY.name, (name,)), all(way.healthy for way in ways)


def find_certificate_ends(common: Mapping[str, Any]) -> dict[str, float]:
    """Return when the server's chain and the clients' authorities end, the first of each, in Unix time.

    `common` is Envoy's context of TLS (`find_tls`).
    """
    texts = {
        "server": _read_text(Path(common["tls_certificates"][0]["certificate_chain"]["filename"])),
        "client_authority": common.get("validation_context", {}).get("trusted_ca", {}).get("inline_string", ""),
    }
    ends = {name: _find_end(text) for name, text in texts.items()}
    return {name: end for name, end in ends.items() if end is not None}


def find_key_ends(directory: Path) -> dict[str, float]:
    """Return when the last key of each client ends, in Unix time, where it is known which keys were issued."""
    try:
        revoked = {one.key_id for one in read_revoked(directory, required=False)}
        issued = [key for key in read_issued(directory) if key.key_id not in revoked]
    except (ConfigError, OSError):  # who issues keys does it elsewhere, or is not us
        return {}
    ends: dict[str, float] = {}
    for key in issued:
        ends[key.client] = max(key.expires_at.timestamp(), ends.get(key.client, 0))
    return ends


def remember_keys(directory: Path) -> Remembered[dict[str, float]]:
    """Return the ends of keys, read anew when one is issued or revoked."""
    return Remembered((directory / ISSUED_FILE, directory / REVOKED_FILE), lambda: find_key_ends(directory))


def measure_ends(
    certificates: Mapping[str, float], keys: Mapping[str, float], clients: Collection[str]
) -> Iterator[tuple[Series, float]]:
    """Go through what ends one day; a client whose last key has ended for a day is taken for one that has gone."""
    for name, end in certificates.items():
        yield (families.GATEWAY_CERTIFICATE.name, (name,)), end
    yesterday = datetime.now(UTC).timestamp() - _DAY_S
    for client, end in keys.items():
        if client in clients and end > yesterday:
            yield (families.GATEWAY_KEY.name, (client,)), end


def measure_budgets(plan: Plan | None, directory: Path) -> Iterator[tuple[Series, float]]:
    """Go through the clients with a budget: what they have used of it today; and say whether it is counted unsafely."""
    unsafe = plan is not None and plan.place.url.startswith(UNSAFE_REDIS)
    yield (families.LAUNCHER_UNSAFE.name, (UNSAFE_REDIS,)), unsafe
    used = read_used(directory) if plan is not None else {}
    for client in sorted(plan.allowances.names()) if plan is not None else ():
        yield (families.GATEWAY_BUDGET.name, (client,)), used.get(client, 0.0)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _find_end(text: str) -> float | None:
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return None
    return min(one.not_valid_after_utc for one in found).timestamp()
