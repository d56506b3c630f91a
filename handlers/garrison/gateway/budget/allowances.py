"""Who may use how much of what is counted here: values in, values out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from garrison.errors import ConfigError

ALL_MODELS = ""  # the name under which a client's limits for all its models together stand


@dataclass(frozen=True)
class Allowance:
    """How much of one thing: requests in a UTC day, requests at the same time; None for any number."""

    queries_per_day: int | None = None
    concurrent: int | None = None

    def __bool__(self) -> bool:
        return self.queries_per_day is not None or self.concurrent is not None


@dataclass(frozen=True)
class Scope:
    """An allowance and what it is for: one model of a client, or all of them."""

    model: str
    allowance: Allowance


@dataclass(frozen=True)
class Allowances:
    """The allowances of every client that has any, by model, and how long the longest request of any may take."""

    clients: Mapping[str, Mapping[str, Allowance]]
    longest_s: int

    def names(self) -> set[str]:
        """Return the clients that have any."""
        return set(self.clients)

    def knows(self, client: str) -> bool:
        """Say whether a client has any allowance."""
        return client in self.clients

    def find(self, client: str, model: str) -> Sequence[Scope]:
        """Return what a client's request for a model counts against."""
        own = self.clients.get(client, {})
        return [Scope(name, own[name]) for name in dict.fromkeys((ALL_MODELS, model)) if name in own]

    def describe(self) -> dict[str, Any]:
        """Return them as plain values, for JSON."""
        clients = {
            client: {model: asdict(allowance) for model, allowance in own.items()}
            for client, own in self.clients.items()
        }
        return {"clients": clients, "longest_s": self.longest_s}


def read_allowances(described: Mapping[str, Any]) -> Allowances:
    """Return what `describe` made plain values of.

    Raises:
        ConfigError: it is something else.
    """
    try:
        clients = {
            str(client): {str(model): _read_allowance(**values) for model, values in own.items()}
            for client, own in described["clients"].items()
        }
        return Allowances(clients, _read_number(described["longest_s"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"not the allowances of a gateway ({error}); render its configuration anew") from error


def _read_allowance(queries_per_day: Any, concurrent: Any) -> Allowance:
    given = (None if value is None else _read_number(value) for value in (queries_per_day, concurrent))
    return Allowance(*given)


def _read_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is not a number from 1")
    return value
