"""The state of the stack over the last minute: two moments' samples enter, what `garrison top` shows leaves."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from garrison.watch import families
from garrison.watch.families import OWN_WORDS
from garrison.watch.seeing.prometheus import Alert
from garrison.watch.seeing.samples import Change

SHARES = (0.5, 0.95, 0.99)
RESPONSES, CLIENT_RESPONSES = families.GATEWAY_RESPONSES.name, families.GATEWAY_CLIENT_RESPONSES.name
SECONDS = families.GATEWAY_SECONDS.name
REFUSALS = {
    "gateway": families.GATEWAY_REFUSALS.name,
    "contract": families.REFUSALS.name,
    "guard": families.GUARD_REFUSALS.name,
}
BUDGET = families.GATEWAY_BUDGET.name
WORKERS, ENDED = families.WORKERS.name, families.ENDED.name
MEMORY = families.MEMORY.name
HELD = families.HELD.name
VIOLATIONS = families.VIOLATIONS.name
UNSAFE = (families.UNSAFE.name, families.LAUNCHER_UNSAFE.name)
DRIFT = families.DRIFT.name
HEALTHY = families.GATEWAY_HEALTHY.name
EVENTS = {
    "management attempts": families.GATEWAY_ATTEMPTS.name,
    "probes": families.GATEWAY_PROBES.name,
    "cell violations": VIOLATIONS,
    "admission refusals": families.ADMISSION_REFUSALS.name,
}
NAMES = (
    *(RESPONSES, CLIENT_RESPONSES, f"{SECONDS}_bucket", *REFUSALS.values(), BUDGET, WORKERS, ENDED, MEMORY, HELD),
    *(*UNSAFE, DRIFT, HEALTHY, *EVENTS.values()),
)
NO_MODEL = "none"  # answers for paths of no model
ALL = ""


@dataclass(frozen=True)
class Rates:
    """Answers each second, by what became of them."""

    all_per_s: float = 0.0
    refused_per_s: float = 0.0
    failed_per_s: float = 0.0


@dataclass(frozen=True)
class Model:
    """One model: rates, seconds at 50, 95 and 99 %, its workers, and what is unusual about it."""

    name: str
    rates: Rates
    latency_s: tuple[float, ...] = ()
    workers: int = 0
    waiting: int = 0
    ended: int = 0
    memory_bytes: float = 0
    drift: float | None = None
    drifting: str = ""
    not_held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """One client: rates, and the largest share of a budget that it has used."""

    name: str
    rates: Rates
    budget: float | None = None


@dataclass(frozen=True)
class Refusals:
    """Refusals for one reason, where it was said."""

    gate: str
    reason: str
    per_minute: float
    total: float


@dataclass(frozen=True)
class State:
    """Everything that is shown; `events` are all that were counted, and how many of them in the last minute."""

    time_s: float
    seconds: float
    rates: Rates
    latency_s: tuple[float, ...]
    models: tuple[Model, ...]
    clients: tuple[Client, ...]
    refusals: tuple[Refusals, ...]
    events: dict[str, tuple[float, float]]
    unsafe: tuple[str, ...]
    servers: dict[str, bool]
    alerts: tuple[Alert, ...] | None = field(default=None)


def describe(change: Change, alerts: tuple[Alert, ...] | None) -> State:
    """Return the state of the stack; without Prometheus nobody knows of alerts: None."""
    by_model = change.rise(RESPONSES, "model", "class")
    return State(
        change.time_s,
        change.seconds,
        _rate(change, ((kind, count) for (_, kind), count in by_model.items())),
        change.quantiles(SECONDS, "", SHARES).get(ALL, ()),
        tuple(_list_models(change, by_model)),
        tuple(_list_clients(change)),
        tuple(_list_refusals(change)),
        {name: (_add(change.total(metric)), _add(change.rise(metric))) for name, metric in EVENTS.items()},
        tuple(sorted(name for metric in UNSAFE for (name,), on in change.most(metric, "setting").items() if on)),
        {name: bool(healthy) for (name,), healthy in sorted(change.least(HEALTHY, "server").items())},
        alerts,
    )


def _list_models(change: Change, by_model: dict[tuple[str, ...], float]) -> Iterable[Model]:
    seconds = change.quantiles(SECONDS, "model", SHARES)
    workers, memory = change.total(WORKERS, "model", "stage"), change.most(MEMORY, "model")
    ended, drift = change.total(ENDED, "model"), change.most(DRIFT, "model", "feature")
    held = change.least(HELD, "model", "part")
    for name in sorted({key[0] for key in (*by_model, *workers)} - {NO_MODEL}):
        ratio, feature = max(((ratio, key[1]) for key, ratio in drift.items() if key[0] == name), default=(None, ""))
        yield Model(
            name=name,
            rates=_rate(change, ((kind, count) for (model, kind), count in by_model.items() if model == name)),
            latency_s=seconds.get(name, ()),
            workers=int(workers.get((name, "serving"), 0)),
            waiting=int(
                sum(count for (model, stage), count in workers.items() if model == name and stage != "serving")
            ),
            ended=int(ended.get((name,), 0)),
            memory_bytes=memory.get((name,), 0.0),
            drift=ratio,
            drifting=feature,
            not_held=tuple(sorted(part for (model, part), holds in held.items() if model == name and not holds)),
        )


def _list_clients(change: Change) -> Iterable[Client]:
    counts: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, kind), count in change.rise(CLIENT_RESPONSES, "client", "class").items():
        counts[name][kind] = count
    budgets = change.most(BUDGET, "client")
    clients = [Client(name, _rate(change, kinds.items()), budgets.get((name,))) for name, kinds in counts.items()]
    return sorted(clients, key=lambda one: (-one.rates.all_per_s, one.name))


def _list_refusals(change: Change) -> Iterable[Refusals]:
    found = []
    for gate, metric in REFUSALS.items():
        totals, rises = change.total(metric, "reason"), change.rise(metric, "reason")
        for (reason,), total in totals.items():
            if total and reason != OWN_WORDS:
                found.append(Refusals(gate, reason, rises.get((reason,), 0.0) * 60 / change.seconds, total))
    return sorted(found, key=lambda one: (-one.per_minute, -one.total, one.gate, one.reason))


def _rate(change: Change, counts: Iterable[tuple[str, float]]) -> Rates:
    kinds: dict[str, float] = defaultdict(float)
    for kind, count in counts:
        kinds[kind] += count / change.seconds
    return Rates(sum(kinds.values()), kinds["4xx"], kinds["5xx"])


def _add(counts: dict[tuple[str, ...], float]) -> float:
    return sum(counts.values())
