"""Ask a gateway that has ten thousand clients: is each limit as exact as it says, and can a crowd refill a bucket?

    bursts     every client asks until it is refused: it gets its burst, and what the time since then has earned
    rates      some clients ask for a while and wait as they are told, while all others come and go
    floods     some do not wait: they get no more, whatever they try
    bytes      as rates, by bytes per minute
    budgets    some ask twice as often as their day allows, over several connections at once
    eviction   one client uses its bucket up, all others ask once, then it asks again; and the same with wildcards
    cost       what the question to the budget service adds to a request, by turns with and without

What a client should get is computed from its limit and the time between its first request and its last refusal; less
than one request is no error, since requests are whole. The server behind the gateway answers at once, so that the
limits decide and nothing else.
"""

import argparse
import asyncio
import copy
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from campaigns.asking import Answer, Asker, answering
from campaigns.result import Campaign, make_parser, start
from garrison.gateway import keys
from stack.counted import Counted
from stack.gateways import Place, http_manager

EXACT = 0.05
RATE, BURST = 5, 10
CROWD_RATE, CROWD_BURST = 1, 3
VICTIM_BURST = 100
BYTES, BODY = 4 * 2**20, b"x" * 10_000
BUDGET = 50
BUDGETED_AT_ONCE = 4
COST_PAIRS = 2000


@dataclass
class Run:
    """One gateway, its clients' keys, and the clock of the campaign."""

    campaign: Campaign
    asker: Asker
    keys: dict[str, str]
    seconds: float
    chosen: random.Random

    def named(self, kind: str) -> list[str]:
        """Return the clients of a kind, in an order of chance."""
        names = [name for name in self.keys if name.startswith(kind)]
        self.chosen.shuffle(names)
        return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, and write what came out."""
    parser = make_parser("limits", __doc__)
    parser.add_argument("--clients", type=int, default=10_000, help="in clients.yaml (default: %(default)s)")
    parser.add_argument("--steady", type=int, default=60, help="that ask for a while (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=40, help="for that long (default: %(default)s)")
    options = parser.parse_args(arguments)
    campaign = start("limits", options)
    with tempfile.TemporaryDirectory(prefix="limits-") as name:
        figures = asyncio.run(run_all(campaign, Path(name), options))
    return campaign.finish(figures, list_misses(figures))


async def run_all(campaign: Campaign, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Start the gateway, run every part, then the eviction once more with wildcards."""
    keys.init_keys(directory / "keys")
    # This campaign has servers of its own; of the place it uses what is rendered and signed, never its recorders.
    place = Place(directory, None, None, clients=write_clients(options))  # type: ignore[arg-type]
    tokens = issue_keys(place, options)
    campaign.tell(f"{len(tokens)} clients have keys")
    figures: dict[str, Any] = {"clients": len(tokens)}
    async with answering(directory / "inf.sock", directory / "rdy.sock"):
        began = time.monotonic()
        gateway = await asyncio.to_thread(Counted, place, lambda config: None)
        figures["start_s"] = round(time.monotonic() - began, 1)
        try:
            chosen = random.Random(options.seed)  # noqa: S311 - repeatable, not secret
            run = Run(campaign, Asker(gateway.port, gateway.ca_path), tokens, options.seconds, chosen)
            await run.asker.open()
            for part in (ask_bursts, ask_steadily, flood, send_bytes, use_budgets, measure_cost, evict):
                figures[part.__name__] = await part(run)
                campaign.tell(f"{part.__name__}: {figures[part.__name__]}")
            figures["envoy_rss_mib"] = read_rss_mib(gateway.process.pid)
            figures["service_rss_mib"] = read_rss_mib(gateway.budget.pids()[0])
            await run.asker.close()
        finally:
            await asyncio.to_thread(gateway.stop)
        gateway = await asyncio.to_thread(Counted, place, use_wildcards)
        try:
            run.asker = Asker(gateway.port, gateway.ca_path)
            await run.asker.open()
            figures["evict_with_wildcards"] = await evict(run)
            campaign.tell(f"with wildcards: {figures['evict_with_wildcards']}")
            await run.asker.close()
        finally:
            await asyncio.to_thread(gateway.stop)
    return figures


def write_clients(options: argparse.Namespace) -> str:
    """Return a clients.yaml: few that are measured, and a crowd."""
    few = max(1, options.steady // 6)
    lines = ["clients:", _entry("victim", 1, VICTIM_BURST)]
    lines += [_entry(f"steady{n}", RATE, BURST) for n in range(options.steady)]
    lines += [_entry(f"flood{n}", RATE, BURST) for n in range(few)]
    lines += [_entry(f"bytes{n}", 1000, 1000, f", bytes_per_minute: {BYTES}") for n in range(few)]
    lines += [_entry(f"daily{n}", 1000, 1000, f", queries_per_day: {BUDGET}, concurrent: 100") for n in range(few)]
    lines += [_entry("free", 100_000, 100_000), _entry("counted", 100_000, 100_000, ", queries_per_day: 1000000")]
    crowd = options.clients - len(lines) + 1
    lines += [_entry(f"crowd{n}", CROWD_RATE, CROWD_BURST) for n in range(crowd)]
    return "\n".join(lines) + "\n"


def _entry(name: str, rate: int, burst: int, more: str = "") -> str:
    return f"  {name}: {{models: [digits], requests_per_second: {rate}, burst: {burst}{more}}}"


def issue_keys(place: Place, options: argparse.Namespace) -> dict[str, str]:
    """Sign a key for each client, without writing ten thousand records down."""
    names = [line.split(":")[0].strip() for line in place.clients.splitlines()[1:]]
    until = datetime.now(UTC) + timedelta(days=1)
    return {
        name: place.sign(sub=name, exp=until, jti=f"{options.seed}-{n}", scopes=["digits:predict"])
        for n, name in enumerate(names)
    }


# The parts ------------------------------------------------------------------------------------------------------------


async def ask_bursts(run: Run) -> dict[str, Any]:
    """Let every client of the crowd ask until it is refused."""
    names = run.named("crowd")
    gate = asyncio.Semaphore(run.asker.count)

    async def one(name: str) -> tuple[float, float]:
        async with gate:
            allowed, began, refused = 0, time.monotonic(), None
            while refused is None and allowed <= 2 * CROWD_BURST:
                answer = await run.asker.ask(run.keys[name])
                refused = answer if answer.status == 429 else None
                allowed += answer.status == 200
            earned = CROWD_RATE * ((refused.at_s if refused else time.monotonic()) - began)
            return allowed, CROWD_BURST + earned

    found = await asyncio.gather(*(one(name) for name in names))
    return {
        "clients": len(names),
        "allowed": int(sum(allowed for allowed, _ in found)),
        "exactly_their_burst": sum(allowed == CROWD_BURST for allowed, _ in found),
        "too_many": sum(allowed > due + 1e-3 for allowed, due in found),
        "too_few": sum(allowed < int(due) for allowed, due in found),
    }


async def ask_steadily(run: Run) -> dict[str, Any]:
    """Let some clients ask for a while and wait when they are told to, while the crowd comes and goes."""
    names, until = run.named("steady"), time.monotonic() + run.seconds
    crowd = asyncio.create_task(come_and_go(run, until))
    found = await asyncio.gather(*(ask_and_wait(run, name, until, RATE, BURST) for name in names))
    return {"clients": len(names), "crowd_asked": await crowd, "seconds": run.seconds, **_describe_errors(found)}


async def send_bytes(run: Run) -> dict[str, Any]:
    """Let some clients send bodies for a while, and wait a second when they are refused."""
    names, until = run.named("bytes"), time.monotonic() + run.seconds

    async def one(name: str) -> float:
        return await ask_and_wait(run, name, until, BYTES / 60, BYTES, BODY)

    found = await asyncio.gather(*(one(name) for name in names))
    return {"clients": len(names), "bytes_per_minute": BYTES, "seconds": run.seconds, **_describe_errors(found)}


async def ask_and_wait(run: Run, name: str, until: float, rate: float, burst: float, body: bytes = b"x") -> float:
    """Ask until refused, wait a second, and again; return how far off the total was at the last refusal, relatively.

    What it weighs is requests, or bytes where there is a body.
    """
    got, began, error = 0.0, time.monotonic(), 1.0
    while time.monotonic() < until:
        answer = await run.asker.ask(run.keys[name], body)
        weight = answer.sent_bytes if len(body) > 1 else 1
        if answer.status == 200:
            got += weight
        elif answer.status == 429:
            missing = burst + rate * (answer.at_s - began) - got
            error = (-missing if missing < 0 else max(0.0, missing - weight)) / (missing + got)
            await asyncio.sleep(1.05)
        else:
            raise RuntimeError(f"{name}: {answer}")
    return error


async def come_and_go(run: Run, until: float) -> int:
    """Let the clients of the crowd ask one after the other, each once."""
    asked = 0
    for name in run.named("crowd"):
        if time.monotonic() > until:
            break
        await run.asker.ask(run.keys[name])
        asked += 1
        await asyncio.sleep(0.002)
    return asked


async def flood(run: Run) -> dict[str, Any]:
    """Let some clients ask on and on, whatever they are answered, each over connections of its own."""
    names, seconds = run.named("flood"), run.seconds / 4

    async def one(name: str) -> tuple[int, int, float]:
        asker = Asker(run.asker.port, run.asker.authority, 2)
        await asker.open()
        began = time.monotonic()
        answers: list[Answer] = []
        while time.monotonic() < began + seconds:
            answers += await asyncio.gather(*(asker.ask(run.keys[name]) for _ in range(2)))
        await asker.close()
        due = BURST + RATE * (answers[-1].at_s - began)
        return sum(answer.status == 200 for answer in answers), len(answers), due

    found = await asyncio.gather(*(one(name) for name in names))
    return {
        "clients": len(names),
        "asked": sum(asked for _, asked, _ in found),
        "allowed": sum(allowed for allowed, _, _ in found),
        "due": round(sum(due for _, _, due in found)),
        "too_many": sum(allowed > due + 1e-3 for allowed, _, due in found),
    }


async def use_budgets(run: Run) -> dict[str, Any]:
    """Let some clients ask twice as often as they may in a day, several requests at once."""
    names = run.named("daily")
    found = []
    for name in names:
        allowed = 0
        for _ in range(2 * BUDGET // BUDGETED_AT_ONCE):
            answers = await asyncio.gather(*(run.asker.ask(run.keys[name]) for _ in range(BUDGETED_AT_ONCE)))
            allowed += sum(answer.status == 200 for answer in answers)
            if any(answer.status != 200 for answer in answers):
                await asyncio.sleep(0.02)  # who goes on has to wait for its turn
        found.append(allowed)
    return {
        "clients": len(names),
        "budget": BUDGET,
        "exact": found.count(BUDGET),
        "least": min(found),
        "most": max(found),
    }


async def measure_cost(run: Run) -> dict[str, Any]:
    """Ask by turns as a client with a budget and as one without; one request at a time."""
    asker = Asker(run.asker.port, run.asker.authority, 1)
    await asker.open()
    times: dict[str, list[float]] = {"free": [], "counted": []}
    for number in range(int(COST_PAIRS * min(1.0, run.seconds / 20))):
        for name in ("free", "counted") if number % 2 else ("counted", "free"):
            answer = await asker.ask(run.keys[name])
            if answer.status == 200:
                times[name].append(1000 * answer.took_s)
    await asker.close()
    medians = {f"p50_ms_{name}": round(statistics.median(values), 3) for name, values in times.items()}
    added = statistics.median(times["counted"]) - statistics.median(times["free"])
    return {"pairs": len(times["free"]), **medians, "p50_more_ms": round(added, 3)}


async def evict(run: Run) -> dict[str, Any]:
    """Use one bucket up, let everybody else ask, and see what is in it then."""
    key = run.keys["victim"]

    async def drain() -> int:
        passed = 0
        while passed <= VICTIM_BURST and (await run.asker.ask(key)).status == 200:
            passed += 1
        return passed

    first = await drain()
    began = time.monotonic()
    crowd = run.named("crowd")
    for at in range(0, len(crowd), run.asker.count):
        await asyncio.gather(*(run.asker.ask(run.keys[name]) for name in crowd[at : at + run.asker.count]))
    again = await drain()
    return {"first": first, "crowd": len(crowd), "again": again, "earned": round(time.monotonic() - began, 1)}


def use_wildcards(config: dict[str, Any]) -> None:
    """Configure the limiter as most people do: one descriptor for whatever client there is."""
    name = "envoy.filters.http.local_ratelimit"
    (limiter,) = [item for item in http_manager(config)["http_filters"] if item["name"] == name]
    (victim,) = [d for d in limiter["typed_config"]["descriptors"] if d["entries"][0]["value"] == "victim"]
    anybody = copy.deepcopy(victim)
    del anybody["entries"][0]["value"]
    limiter["typed_config"]["descriptors"] = [anybody]


# What came out --------------------------------------------------------------------------------------------------------


def list_misses(figures: dict[str, Any]) -> list[str]:
    """Name what was not as it should be."""
    bursts, floods, budgets = figures["ask_bursts"], figures["flood"], figures["use_budgets"]
    kept, lost = figures["evict"], figures["evict_with_wildcards"]
    checks = {
        "a client got more than its burst and the time had earned": bursts["too_many"] == 0,
        "a client got less than its burst and the time had earned": bursts["too_few"] == 0,
        f"a rate is off by more than {EXACT:.0%}": figures["ask_steadily"]["largest_error"] <= EXACT,
        f"a rate of bytes is off by more than {EXACT:.0%}": figures["send_bytes"]["largest_error"] <= EXACT,
        "somebody who did not wait got more than the rate": floods["too_many"] == 0,
        "a budget was not exact": budgets["exact"] == budgets["clients"],
        "the crowd refilled a bucket": kept["again"] <= kept["earned"] + 1,
        "with wildcards the crowd refilled no bucket: this campaign could not fail": lost["again"] >= VICTIM_BURST,
    }
    return [what for what, holds in checks.items() if not holds]


def _describe_errors(errors: Sequence[float]) -> dict[str, float]:
    return {
        "largest_error": round(max(abs(error) for error in errors), 4),
        "mean_error": round(statistics.fmean(errors), 4),
    }


def read_rss_mib(pid: int) -> int:
    """Return a process's resident memory."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    sys.exit(main())
