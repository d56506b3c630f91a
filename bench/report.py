"""Write a run down: measured points enter, `results.json`, `benchmarks.md` and its plot leave."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.in_process import InProcess
from bench.plot import draw_ratios
from bench.run import CLIENT_ROLE
from bench.workloads import Workload

STOCK = ("stock", "stock-tuned", "stock-tuned-long", "stock-tuned-1")
LITSERVE = ("litserve", "litserve-long")
LEAST_OF_LIMIT = 0.75
ROLES = ("gateway", "server", "workers", "launcher", CLIENT_ROLE)

HEAD = """\
Written by `make bench`; do not edit. Garrison with everything switched on (Envoy, TLS, an API key, the contract's
checks) next to TorchServe as it comes, over plain HTTP and without any check, to LitServe with the same model, and to
the handler without a server. Ratios are what can be compared between machines; absolute figures are this one's.
"""
RATIOS = """\
Throughput of Garrison divided by that of the best stock configuration, of LitServe with the better of its delays, and
of the in-process limit; and its 99th percentile of latency divided by that of the same stock configuration (below 1 is
better). Which is best is chosen anew in each line.
"""
ABSOLUTE = """\
Answers per second, latency as wrk saw it, memory of all processes of the system (resident, shared pages counted in
each; the highest of the rounds), and requests that failed.
"""
COSTS = """\
Milliseconds of processor time per answer, by process: Envoy, the JVM, the Python workers (for LitServe and the
in-process limit everything is there), `garrison serve` itself, and wrk.
"""
STEPS = """\
Within a worker of Garrison, milliseconds of processor time per request, measured without a server on one core while
the others rest (`bench/steps.py`). What the workers take above that, with all cores busy, is the price of sharing
caches and memory, and of receiving the body and sending the answer.
"""
METHOD = """\
```sh
make bench                               # everything, about two hours; writes this page
make bench BENCH='--quick'               # minutes, rough, into build/bench
make bench BENCH='--workload resnet18'   # see python -m bench --help
```

{rounds} round(s) of {seconds:g} s per figure, alternating between the systems, which are all up at the same time; a
figure is the median over the rounds. The client is wrk with one thread on the same machine, so it takes part of the
processor, from every system alike. Garrison, tuned stock and LitServe have {workers} workers with one thread each,
batches of up to {batch} and {delay_ms} ms to fill them, what Garrison's documentation recommends; tuned stock and
LitServe are measured with {long_delay_ms} ms as well, and stock without batches, too. Garrison is compared with the
best of each, line by line, so each of the others has the delay that suits it. Stock runs its real handlers:
`torchvision`'s wheel does not import over a CPU build of torch, so its Python half is put on the path by itself (see
`bench/stock.py`). Models have random weights; pictures are scikit-learn's `china.jpg` and `flower.jpg`, and the former
enlarged to 4032x2688.
"""

Point = dict[str, Any]
Points = dict[tuple[str, str, int], Point]


def write_report(results: dict[str, Any], workloads: Sequence[Workload], output: Path) -> list[Path]:
    """Write everything under `output`, as it lies in the repository, and return the files."""
    (output / "bench").mkdir(parents=True, exist_ok=True)
    (output / "docs").mkdir(parents=True, exist_ok=True)
    figures, page = output / "bench" / "results.json", output / "docs" / "benchmarks.md"
    plot = page.with_suffix(".svg")
    figures.write_text(json.dumps(results, indent=2) + "\n")
    points = {(point["workload"], point["system"], point["connections"]): point for point in results["points"]}
    page.write_text("\n".join(render_page(results, workloads, points)))
    draw_ratios(compare_all(workloads, points), plot)
    return [figures, page, plot]


def render_page(results: dict[str, Any], workloads: Sequence[Workload], points: Points) -> list[str]:
    """Return the lines of `docs/benchmarks.md`: ratios first, as absolute figures are one machine's."""
    return [
        *_render_head(results),
        *_render_ratios(workloads, points),
        *_render_absolute(workloads, points),
        *_render_costs(workloads, points),
        *_render_steps(workloads, results["steps"]),
        *_render_misses(workloads, points),
        *_render_method(results),
    ]


def compare_all(workloads: Sequence[Workload], points: Points) -> dict[str, dict[str, float]]:
    """Return throughput relative to the best stock configuration: workload to system to ratio, at most connections."""
    compared: dict[str, dict[str, float]] = {}
    for workload in workloads:
        most = max((key[2] for key in points if key[0] == workload.name), default=0)
        best = find_best(STOCK, points, workload.name, most)
        if best is None:
            continue
        rows = [point for key, point in points.items() if key[0] == workload.name and key[2] in (most, 0)]
        compared[workload.title] = {row["title"]: _rate(row) / _rate(best) for row in rows if row["per_second"]}
    return compared


def find_best(systems: Sequence[str], points: Points, workload: str, connections: int) -> Point | None:
    """Return that of some systems with the highest throughput."""
    found = [points[workload, name, connections] for name in systems if (workload, name, connections) in points]
    return max((point for point in found if point["per_second"]), key=_rate, default=None)


def _rate(point: Point) -> float:
    return float(point["per_second"])


def _render_head(results: dict[str, Any]) -> list[str]:
    machine = results["machine"]
    return [
        "# Benchmarks",
        "",
        *HEAD.splitlines(),
        "",
        f"Commit `{results['commit']}`, {machine['date'][:10]}, {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gb']} GB, {machine['system']}. Mode: {results['mode']}.",
        "",
        "![Throughput relative to the best stock configuration](benchmarks.svg)",
        "",
    ]


def _render_ratios(workloads: Sequence[Workload], points: Points) -> list[str]:
    lines = [
        "## Ratios",
        "",
        *RATIOS.splitlines(),
        "",
        "| workload | connections | best stock | against it | asked, aimed | p99 | against LitServe | of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workload in workloads:
        for connections in _connections(points, workload.name):
            lines.append(_render_ratio(workload, connections, points))
    return [*lines, ""]


def _render_ratio(workload: Workload, connections: int, points: Points) -> str:
    ours = points.get((workload.name, "garrison", connections))
    best = find_best(STOCK, points, workload.name, connections)
    lit = find_best(LITSERVE, points, workload.name, connections)
    limit = points.get((workload.name, InProcess.name, 0))
    asked = f"{workload.aims.least}, {workload.aims.aim}" if workload.aims else ""
    cells = [
        workload.title,
        str(connections),
        best["system"] if best else "none answered",
        _ratio(ours, best, "per_second"),
        asked,
        _ratio(ours, best, "p99_ms"),
        _ratio(ours, lit, "per_second"),
        _ratio(ours, limit, "per_second"),
    ]
    return f"| {' | '.join(cells)} |"


def _ratio(ours: Point | None, theirs: Point | None, figure: str) -> str:
    if not ours or not theirs or not ours[figure] or not theirs[figure]:
        return "-"
    return f"{ours[figure] / theirs[figure]:.2f}"


def _render_absolute(workloads: Sequence[Workload], points: Points) -> list[str]:
    lines = [
        "## Absolute",
        "",
        *ABSOLUTE.splitlines(),
        "",
        "| workload | connections | system | per second | p50, ms | p99, ms | memory, MB | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in _ordered(workloads, points):
        figures = [_show(point[name], 1) for name in ("per_second", "p50_ms", "p99_ms")]
        cells = [_title(workloads, point), str(point["connections"] or "-"), point["title"], *figures]
        lines.append(f"| {' | '.join([*cells, _show(point['resident_mb'], 0), str(point['failures'])])} |")
    return [*lines, ""]


def _render_costs(workloads: Sequence[Workload], points: Points) -> list[str]:
    lines = [
        "## Where each millisecond of processor time goes",
        "",
        *COSTS.splitlines(),
        "",
        f"| workload | connections | system | {' | '.join(ROLES)} | together |",
        f"|---|---|---|{'---|' * (len(ROLES) + 1)}",
    ]
    for point in _ordered(workloads, points):
        cost = point["cpu_ms_per_answer"]
        cells = [_show(cost.get(role), 2) for role in ROLES]
        together = sum(value for value in cost.values() if value)
        name = [_title(workloads, point), str(point["connections"] or "-"), point["title"]]
        lines.append(f"| {' | '.join([*name, *cells, _show(together, 2)])} |")
    return [*lines, ""]


def _render_steps(workloads: Sequence[Workload], steps: dict[str, dict[str, float]]) -> list[str]:
    lines = ["### In a worker, step by step", "", *STEPS.splitlines(), "", "| workload | steps, ms |", "|---|---|"]
    for workload in workloads:
        if workload.name in steps:
            shown = ", ".join(f"{step} {_show(cost, 2)}" for step, cost in steps[workload.name].items())
            lines.append(f"| {workload.title} | {shown} |")
    return [*lines, ""]


def _render_misses(workloads: Sequence[Workload], points: Points) -> list[str]:
    """Say of each workload that misses what is asked, at the most connections, how far it could get."""
    lines = []
    for workload in workloads:
        most = max(_connections(points, workload.name), default=0)
        ours, best = points.get((workload.name, "garrison", most)), find_best(STOCK, points, workload.name, most)
        if workload.aims is None or ours is None or best is None or _rate(ours) >= workload.aims.least * _rate(best):
            continue
        cost, theirs = ours["cpu_ms_per_answer"], sum(best["cpu_ms_per_answer"].values())
        lines.append(
            f"- {workload.title}: {_ratio(ours, best, 'per_second')} instead of {workload.aims.least}. An answer takes "
            f"{sum(cost.values()):.1f} ms of processor time, {cost['workers']:.1f} of it in the workers; in the best "
            f"stock configuration {theirs:.1f} ms. Were gateway, server and client free of cost, that "
            f"would be a factor of {theirs / cost['workers']:.2f}."
        )
    return ["### What is missed", "", *lines, ""] if lines else []


def _render_method(results: dict[str, Any]) -> list[str]:
    plan, versions = results["plan"], results["versions"]
    return [
        "## How it is measured",
        "",
        *METHOD.format(**plan).splitlines(),
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
    ]


def _connections(points: Points, workload: str) -> list[int]:
    return sorted({key[2] for key in points if key[0] == workload and key[2]})


def _ordered(workloads: Sequence[Workload], points: Points) -> list[Point]:
    order = {workload.name: place for place, workload in enumerate(workloads)}
    return [
        points[key] for key in sorted(points, key=lambda key: (order[key[0]], key[2] or sum(order.values()) + 10**6))
    ]


def _title(workloads: Sequence[Workload], point: Point) -> str:
    return next(workload.title for workload in workloads if workload.name == point["workload"])


def _show(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
