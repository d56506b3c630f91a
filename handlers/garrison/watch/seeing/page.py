"""Write a report as one HTML page: a day enters, a page leaves that needs no script, no server and no other file.

Everything that others named is escaped. A policy in the page forbids whatever it does not use, should that ever fail:
pictures are data of the page itself, and the one style is known by its digest.
"""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from garrison.watch.seeing.charts import draw
from garrison.watch.seeing.day import Counts, Day

DRIFT_LIMIT = 0.25  # as the alert GarrisonInputDrift has it
_NONE = "none"
_STYLE = """
:root { color-scheme: light; --ink: #0f172a; --soft: #475569; --line: #e2e8f0; --back: #f8fafc; --good: #047857;
  --warn: #b45309; --bad: #b91c1c; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 56px; }
header p { color: var(--soft); margin: 2px 0 0; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 0 0 8px; }
.lead { font-size: 19px; max-width: 52em; margin: 20px 0 18px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0; }
.figures div, .card { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.figures dt { color: var(--soft); font-size: 13px; }
.figures dd { margin: 2px 0 0; font-size: 25px; font-weight: 650; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 12px; }
.row { margin-top: 12px; }
.card { overflow-x: auto; }
img { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 6px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 13px; }
td.number, th.number { text-align: right; white-space: nowrap; }
.empty { color: var(--soft); margin: 0; }
footer { color: var(--soft); font-size: 13px; margin-top: 40px; }
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'"
Cell = tuple[str, str]
"""Words, and the class that they are shown with."""


def write_page(day: Day, source: str) -> str:
    """Return the page; `source` is where its data come from."""
    sections = (_summary(day), _requests(day), _models(day), _clients(day), _security(day), _drift(day))
    title = f"Garrison, {_date(day.start_s)} to {_date(day.end_s)}"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<header><h1>What Garrison saw</h1><p>{_date(day.start_s)} to {_date(day.end_s)} UTC</p></header>",
            *sections,
            f"<footer>Written by <code>garrison report</code> from Prometheus at {_text(source)}. All times are UTC. "
            "Counts are what Prometheus makes of its samples, and may be off by a few.</footer></main></body></html>",
        ]
    )


def _summary(day: Day) -> str:
    total = day.total
    figures = [
        ("requests", _count(total.requests), ""),
        ("refused", _share(total.refused, total), "warn" if total.refused > total.requests / 5 else ""),
        ("failed", _share(total.failed, total), "bad" if total.failed > total.requests / 100 else "good"),
        ("alerts that fired", str(len(day.alerts)), "bad" if day.alerts else "good"),
        ("management attempts", _count(day.events["management attempts"]), _alarm(day.events["management attempts"])),
        ("cell violations", _count(day.events["cell violations"]), _alarm(day.events["cell violations"])),
    ]
    shown = "".join(f'<div><dt>{name}</dt><dd class="{kind}">{value}</dd></div>' for name, value, kind in figures)
    rows = [
        (
            _cell(one.name),
            (one.severity, "bad" if one.severity == "page" else "warn"),
            _cell(_date(one.first_s)),
            _cell(_date(one.last_s)),
            (_duration(one.seconds), "number"),
        )
        for one in day.alerts
    ]
    table = _table("Alerts that fired", ("alert", "severity", "first", "last", "for"), rows, "No alert fired.")
    figures_shown = f'<p class="lead">{_lead(day)}</p><dl class="figures">{shown}</dl>'
    return f'{figures_shown}<div class="row"><div class="card">{table}</div></div>'


def _lead(day: Day) -> str:
    """Return the day in two sentences, for who reads no further."""
    total = day.total
    answered = f"{_count(total.requests)} requests, of which {_share(total.refused, total)} were refused and "
    answered += f"{_share(total.failed, total)} failed."
    if day.alerts:
        names = ", ".join(_text(one.name) for one in day.alerts)
        return f"{answered} {len(day.alerts)} {'alert' if len(day.alerts) == 1 else 'alerts'} fired: {names}."
    return f"{answered} No alert fired."


def _requests(day: Day) -> str:
    classes = _figure(day, "classes", "Answers by class", "requests/s", stacked=True)
    latency = _figure(day, "latency", "Time to answer at 50, 95 and 99 % of requests", "seconds")
    return f'<section><h2>Requests</h2><div class="row">{classes}{latency}</div></section>'


def _models(day: Day) -> str:
    rows = [(_cell(one.name), *_shares(one), *_latency(one)) for one in day.models]
    heads = ("model", "requests", "refused", "failed", "50 %", "95 %", "99 %")
    table = _table("Models", heads, rows, "No model was asked.")
    plot = _figure(day, "models", "Requests by model", "requests/s")
    return f'<section><h2>Per model</h2><div class="row">{plot}<div class="card">{table}</div></div></section>'


def _clients(day: Day) -> str:
    rows = [(_cell(one.name), *_shares(one)) for one in day.clients]
    table = _table("Clients", ("client", "requests", "refused", "failed"), rows, "No client asked.")
    plot = _figure(day, "clients", "Requests by client (none: without a key that counts)", "requests/s")
    return f'<section><h2>Per client</h2><div class="row">{plot}<div class="card">{table}</div></div></section>'


def _security(day: Day) -> str:
    rows = [(_cell(name), (_count(count), f"number {_alarm(count)}")) for name, count in day.events.items()]
    events = _table("Events", ("what", "how often"), rows, "")
    reasons = [(_cell(gate), _cell(reason), (_count(number), "number")) for gate, reason, number in day.refusals]
    refusals = _table("Refusals", ("gate", "reason", "how often"), reasons, "Nothing was refused.")
    held = _state("The cell held in all workers.", "Did not hold at some time: ", day.not_held)
    unsafe = _state("No unsafe setting was in force.", "Unsafe settings in force: ", day.unsafe)
    plots = _figure(day, "refusals", "Refusals of the gateway by reason", "refusals/s", stacked=True)
    plots += _figure(day, "events", "Security events", "events")
    cards = f'<div class="card">{refusals}</div><div class="card">{events}{held}{unsafe}</div>'
    return f'<section><h2>Security events</h2><div class="row">{plots}{cards}</div></section>'


def _drift(day: Day) -> str:
    rows = [(_cell(one.model), _cell(one.feature), _ratio(one.most), _ratio(one.last)) for one in day.drifts]
    empty = "No model has a profile to compare with: see garrison profile."
    table = _table("Features", ("model", "feature", "most", "now"), rows, empty)
    words = f"Largest drift of each model; the line is the limit, {DRIFT_LIMIT}"
    plot = _figure(day, "drift", words, "stability index", limit=DRIFT_LIMIT)
    return f'<section><h2>Drift of inputs</h2><div class="row">{plot}<div class="card">{table}</div></div></section>'


def _figure(day: Day, name: str, title: str, unit: str, *, stacked: bool = False, limit: float | None = None) -> str:
    """Return a card with a plot, whose text for who does not see it says what it shows; the tables have the numbers."""
    curves = day.curves[name]
    if not any(curves.values()):
        return f'<div class="card"><h3>{_text(title)}</h3><p class="empty">Nothing was counted.</p></div>'
    picture = draw(curves, unit, (day.start_s, day.end_s), stacked=stacked, limit=limit)
    data = base64.b64encode(picture.encode()).decode()
    most = {key: max((value for _, value in points), default=0.0) for key, points in curves.items()}
    told = "; ".join(f"{key or _NONE} at most {value:.3g}" for key, value in sorted(most.items()))
    alt = _text(f"{title}, in {unit}: {told}.")
    return f'<div class="card"><h3>{_text(title)}</h3><img alt="{alt}" src="data:image/svg+xml;base64,{data}"></div>'


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], empty: str) -> str:
    if not rows:
        return f'<h3>{_text(caption)}</h3><p class="empty">{_text(empty)}</p>'
    numeric = [any("number" in row[place][1] for row in rows) for place in range(len(heads))]
    kinds = [_kind("number" * is_number) for is_number in numeric]
    head = "".join(f'<th scope="col"{kind}>{_text(name)}</th>' for name, kind in zip(heads, kinds, strict=True))
    body = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    return f"<table><caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: Sequence[Cell]) -> str:
    first, *others = cells
    rest = "".join(f"<td{_kind(kind)}>{_text(words)}</td>" for words, kind in others)
    return f'<th scope="row"{_kind(first[1])}>{_text(first[0])}</th>{rest}'


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _state(good: str, bad: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f'<p class="bad">{_text(bad + listed)}</p>' if listed else f'<p class="good">{_text(good)}</p>'


def _shares(one: Counts) -> tuple[Cell, Cell, Cell]:
    failed = "number bad" if one.failed > one.requests / 100 else "number"
    return (_count(one.requests), "number"), (_share(one.refused, one), "number"), (_share(one.failed, one), failed)


def _latency(one: Counts) -> tuple[Cell, ...]:
    quantiles = one.latency_s or (None, None, None)
    return tuple(("-" if value is None else f"{value * 1000:.0f} ms", "number") for value in quantiles)


def _ratio(value: float) -> Cell:
    return f"{value:.2f}", "number bad" if value > DRIFT_LIMIT else "number"


def _cell(words: str) -> Cell:
    return words, ""


def _share(part: float, whole: Counts) -> str:
    return f"{part / whole.requests:.1%}" if whole.requests else "-"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _alarm(count: float) -> str:
    return "bad" if count > 0.5 else "good"


def _duration(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%-d %b %Y, %H:%M")


def _text(words: str) -> str:
    """Escape for HTML, attributes included, and write control characters visibly."""
    return html.escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words))
