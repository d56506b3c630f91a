"""What every way of keeping counts can do: take a request's place in all its limits at once, or in none."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from garrison.errors import Undecided
from garrison.gateway.budget.allowances import Scope

DAY_S = 86_400  # a UTC day of Unix time, which knows no leap seconds
BUDGET_USED, TOO_MANY_CONCURRENT = "budget_used", "too_many_concurrent"
RETRY_SOON_S = 1  # nobody knows when a request ends


class LedgerFailure(Undecided):
    """The counts cannot be read or written; who asked is told nothing, and refuses."""


@dataclass(frozen=True)
class Asked:
    """One request: whose, for what, which limits hold, the stream's id, and how long it lasts at most."""

    client: str
    model: str
    scopes: Sequence[Scope]
    stream: str
    lease_s: int


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on: no reason if so, else which, and after how many seconds it may be asked again.

    `used_ratio`: of a day's queries, how many the client has used with this one; of the budget nearest to its end.
    """

    reason: str = ""
    retry_after_s: int = 0
    used_ratio: float = 0.0


class Ledger(ABC):
    """Counts of queries by day, client and model, and of the requests in progress."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Say whether it is ready to count; after some failures it has to be opened again."""

    @abstractmethod
    async def open(self) -> None:
        """Make ready to count.

        Raises:
            LedgerFailure: it cannot be.
        """

    @abstractmethod
    async def take(self, asked: Asked) -> Verdict:
        """Count a request in each of its scopes if all have room, in none otherwise.

        Raises:
            LedgerFailure: it is not known whether there is room.
        """

    @abstractmethod
    async def give_back(self, client: str, model: str, stream: str) -> None:
        """Free a request's place among those in progress; nothing happens if it has none.

        Raises:
            LedgerFailure: it could not be; the place is free after its lease.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of what is open."""


def seconds_to_midnight(now_s: float) -> int:
    """Return the seconds until budgets are whole again, at least 1."""
    return DAY_S - int(now_s) % DAY_S
