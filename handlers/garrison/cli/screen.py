"""Draw the state of the stack on a terminal. Every name in it is escaped: others chose it."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from garrison.cli.options import escape

if TYPE_CHECKING:
    from garrison.watch.seeing.state import Model, Rates, State

_MOST_ROWS = 20
_DRIFT_LIMIT = 0.25  # as the alert GarrisonInputDrift has it
_BUDGET_LIMIT = 0.9  # as GarrisonBudgetNearlyUsed has it
_NOTHING = "-"
_WIDTH = 140  # where no terminal says its own
_STYLES = {"page": "bold red", "ticket": "yellow"}
Cell = str | tuple[str, str]


def print_state(state: "State", told: str) -> None:
    """Print the state once."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(render(state, told, ""))


@contextlib.contextmanager
def open_screen() -> Iterator[Callable[["State", str, str], None]]:
    """Give a function that draws on the whole terminal; what stood there before comes back at the end."""
    with Live(screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda state, told, trouble: live.update(render(state, told, trouble), refresh=True)


def render(state: "State", told: str, trouble: str) -> RenderableType:
    """Return the whole picture."""
    parts: list[RenderableType] = [_render_head(state, told, trouble), _render_alerts(state), _render_models(state)]
    parts.append(Columns([_render_refusals(state), _render_clients(state), _render_security(state)], padding=(0, 1)))
    return Group(*parts)


def _render_head(state: "State", told: str, trouble: str) -> Panel:
    line = Text()
    line.append(f"{state.rates.all_per_s:.1f} requests/s", "bold")
    line.append(f"   refused {_share(state.rates.refused_per_s, state.rates)}")
    line.append(
        f"   failed {_share(state.rates.failed_per_s, state.rates)}", "bold red" if state.rates.failed_per_s else ""
    )
    latency = "  ".join(map(_milliseconds, state.latency_s)) or _NOTHING
    line.append(f"   50/95/99 %: {latency}")
    line.append(f"\n{_text(told)}, over {state.seconds:.0f} s", "dim")
    if trouble:
        line.append(f"\nnot so any more: {_text(trouble)}", "bold red")
    clock = time.strftime("%H:%M:%S", time.localtime(state.time_s))
    return Panel(line, title=f"garrison top  {clock}", title_align="left", border_style="red" if trouble else "cyan")


def _render_alerts(state: "State") -> RenderableType:
    if state.alerts is None:
        return Text("alerts: not known without Prometheus", "dim")
    if not state.alerts:
        return Text("alerts: none", "green")
    lines = Text()
    for alert in sorted(state.alerts, key=lambda one: (one.state != "firing", one.name))[:_MOST_ROWS]:
        style = _STYLES.get(alert.severity, "yellow") if alert.state == "firing" else "dim"
        lines.append(f"{_text(alert.state)} {_text(alert.name)}", style)
        lines.append(f"  {_text(alert.summary)}\n")
    lines.rstrip()
    return Panel(lines, title="alerts", title_align="left", border_style="red")


def _render_models(state: "State") -> Table:
    table = _table(
        "models", "model", "requests/s", "refused", "failed", "50 %", "95 %", "99 %", "workers", "memory", "drift"
    )
    for model in state.models[:_MOST_ROWS]:
        quantiles: list[Cell] = [_milliseconds(one) for one in model.latency_s] or [_NOTHING] * 3
        memory = f"{model.memory_bytes / 2**20:.0f} MiB" if model.memory_bytes else _NOTHING
        _add(table, model.name, *_rates(model.rates), *quantiles, _workers(model), memory, _drift(model))
    return _tell_rest(table, len(state.models))


def _render_refusals(state: "State") -> Table:
    table = _table("refusals", "gate", "reason", "a minute", "in all")
    for one in state.refusals[:_MOST_ROWS]:
        rate = (f"{one.per_minute:.1f}", "yellow" if one.per_minute else "dim")
        _add(table, one.gate, one.reason, rate, f"{one.total:.0f}")
    return _tell_rest(table, len(state.refusals))


def _render_clients(state: "State") -> Table:
    table = _table("clients", "client", "requests/s", "refused", "failed", "budget used")
    for client in state.clients[:_MOST_ROWS]:
        used: Cell = _NOTHING
        if client.budget is not None:
            used = (f"{client.budget:.0%}", "red" if client.budget >= _BUDGET_LIMIT else "")
        _add(table, client.name, *_rates(client.rates), used)
    return _tell_rest(table, len(state.clients))


def _render_security(state: "State") -> Table:
    table = _table("security", "what", "last minute", "in all")
    for name, (total, lately) in state.events.items():
        _add(table, name, (f"{lately:.0f}", "bold red" if lately else "dim"), f"{total:.0f}")
    faults = [f"{model.name}: {part}" for model in state.models for part in model.not_held]
    _add(table, "posture", ("does not hold: " + ", ".join(faults), "bold red") if faults else ("holds", "green"), "")
    _add(table, "unsafe settings", (", ".join(state.unsafe), "bold red") if state.unsafe else ("none", "green"), "")
    away = [name for name, healthy in state.servers.items() if not healthy]
    _add(table, "servers", ("away: " + ", ".join(away), "bold red") if away else ("healthy", "green"), "")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = number > 0 and column not in ("reason", "drift", "workers")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _add(table: Table, *cells: Cell) -> None:
    pairs: Iterable[tuple[str, str]] = (cell if isinstance(cell, tuple) else (cell, "") for cell in cells)
    table.add_row(*(Text(_text(words), style) for words, style in pairs))


def _tell_rest(table: Table, rows: int) -> Table:
    if rows > _MOST_ROWS:
        table.caption = f"and {rows - _MOST_ROWS} more; --json has all"
    return table


def _rates(rates: "Rates") -> tuple[Cell, Cell, Cell]:
    refused = (_share(rates.refused_per_s, rates), "yellow" if rates.refused_per_s else "dim")
    failed = (_share(rates.failed_per_s, rates), "bold red" if rates.failed_per_s else "dim")
    return f"{rates.all_per_s:.1f}", refused, failed


def _workers(model: "Model") -> Cell:
    words = (
        f"{model.workers} serving"
        + f", {model.waiting} not yet" * bool(model.waiting)
        + f", {model.ended} ended" * bool(model.ended)
    )
    return words, "" if model.workers else "bold red"


def _drift(model: "Model") -> Cell:
    if model.drift is None:
        return _NOTHING
    return f"{model.drift:.2f} {model.drifting}", "red" if model.drift > _DRIFT_LIMIT else ""


def _share(part_per_s: float, rates: "Rates") -> str:
    return f"{part_per_s / rates.all_per_s:.1%}" if rates.all_per_s else _NOTHING


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def _text(words: str) -> str:
    return escape(words, keep="")
