"""Keep counts in one file, for one gateway: atomic, whole after a crash, and bounded, as old days are removed.

Each request is one transaction. The write-ahead log is written before the answer and not forced to the disk: what was
counted survives the end of this process and of Envoy; a power cut may cost the last seconds' counts, but not the file.

Requests in progress stand in the file, too, so that a service that is started again beside the same Envoy still knows
them; `gateway` says which Envoy that is. Their leases end by the machine's own clock, which nobody can put back.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from garrison.errors import ConfigError
from garrison.files import make_private_directory
from garrison.gateway.budget.allowances import ALL_MODELS, Scope
from garrison.gateway.budget.ledger import (
    BUDGET_USED,
    DAY_S,
    RETRY_SOON_S,
    TOO_MANY_CONCURRENT,
    Asked,
    Ledger,
    LedgerFailure,
    Verdict,
    seconds_to_midnight,
)

KEPT_DAYS = 7  # for people who look, and for clocks that are wrong by a day
SCHEMA = """
CREATE TABLE IF NOT EXISTS counts (
    day INTEGER NOT NULL, client TEXT NOT NULL, model TEXT NOT NULL, queries INTEGER NOT NULL,
    PRIMARY KEY (day, client, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (
    client TEXT NOT NULL, stream TEXT NOT NULL, model TEXT NOT NULL, until REAL NOT NULL, gateway TEXT NOT NULL,
    PRIMARY KEY (client, stream)
) WITHOUT ROWID;
"""
PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",  # a second gateway on the same file gets an error instead of half of the budget
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_size_limit = 4194304",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)
COUNT_QUERY = """
INSERT INTO counts VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET queries = queries + 1
"""


class SqliteLedger(Ledger):
    """Counts in a SQLite file that is this process's alone."""

    def __init__(self, path: Path, gateway: str, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._gateway = gateway
        self._now = now
        self._swept_day = -1
        self._database: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Say whether the file is open; it is not after a failure, since who knows what is in it then."""
        return self._database is not None

    async def open(self) -> None:
        """Open the file, check it, and forget requests of another Envoy.

        Raises:
            LedgerFailure: it is damaged, another gateway's, or cannot be written.
        """
        try:
            make_private_directory(self._path.parent, root_group=True)
            _make_private(self._path)
            self._database = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise LedgerFailure(f"{self._path}: {error}") from error
        except ConfigError as error:
            raise LedgerFailure(str(error)) from error

    async def take(self, asked: Asked) -> Verdict:
        """Count a request in each of its scopes if all have room, in none otherwise.

        Raises:
            LedgerFailure: the file cannot be read or written.
        """
        now_s = self._now()
        with self._transaction() as database:
            self._sweep(database, int(now_s) // DAY_S)
            shares = (self._find_used(database, asked.client, scope, int(now_s) // DAY_S) for scope in asked.scopes)
            used = max(shares, default=0.0)
            if used > 1:
                return Verdict(BUDGET_USED, seconds_to_midnight(now_s), 1.0)
            for scope in asked.scopes:
                if self._is_full(database, asked.client, scope):
                    return Verdict(TOO_MANY_CONCURRENT, RETRY_SOON_S)
            self._count(database, asked, int(now_s) // DAY_S)
        return Verdict(used_ratio=used)

    async def give_back(self, client: str, model: str, stream: str) -> None:
        """Free a request's place among those in progress.

        Raises:
            LedgerFailure: the file cannot be written.
        """
        with self._transaction() as database:
            database.execute("DELETE FROM places WHERE client = ? AND stream = ?", (client, stream))

    async def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            for pragma in PRAGMAS:
                database.execute(pragma)
            if database.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                raise sqlite3.DatabaseError("the file is damaged")
            database.executescript(SCHEMA)
            database.execute("DELETE FROM places WHERE gateway != ?", (self._gateway,))
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._database
        if database is None:
            raise LedgerFailure(f"{self._path}: is not open")
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except sqlite3.Error as error:
            self._database = None
            database.close()  # which rolls back
            raise LedgerFailure(f"{self._path}: {error}") from error

    def _sweep(self, database: sqlite3.Connection, day: int) -> None:
        """Remove days that are over, once a day."""
        if day != self._swept_day:
            database.execute("DELETE FROM counts WHERE day <= ?", (day - KEPT_DAYS,))
            self._swept_day = day

    def _find_used(self, database: sqlite3.Connection, client: str, scope: Scope, day: int) -> float:
        """Return the share of the day's queries that are used with one more; above 1 there is no room for it."""
        most = scope.allowance.queries_per_day
        if most is None:
            return 0.0
        key = (day, client, scope.model)
        row = database.execute("SELECT queries FROM counts WHERE day = ? AND client = ? AND model = ?", key).fetchone()
        return ((0 if row is None else row[0]) + 1) / most

    def _is_full(self, database: sqlite3.Connection, client: str, scope: Scope) -> bool:
        most = scope.allowance.concurrent
        if most is None:
            return False
        database.execute("DELETE FROM places WHERE client = ? AND until <= ?", (client, time.monotonic()))
        query, values = "SELECT count(*) FROM places WHERE client = ?", [client]
        if scope.model != ALL_MODELS:
            query, values = query + " AND model = ?", [client, scope.model]
        return bool(database.execute(query, values).fetchone()[0] >= most)

    def _count(self, database: sqlite3.Connection, asked: Asked, day: int) -> None:
        for scope in asked.scopes:
            if scope.allowance.queries_per_day is not None:
                database.execute(COUNT_QUERY, (day, asked.client, scope.model))
        if any(scope.allowance.concurrent is not None for scope in asked.scopes):
            until = time.monotonic() + asked.lease_s
            place = (asked.client, asked.stream, asked.model, until, self._gateway)
            database.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?)", place)


def _make_private(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
