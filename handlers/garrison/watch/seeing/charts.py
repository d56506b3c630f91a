"""Draw curves as SVG: times and values enter, a picture without scripts, links or other files leaves.

Same curves, same bytes. Names are written as they are: nothing in them is markup or mathematics.
"""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d", "#64748b")
CLASS_COLOURS = {"2xx": "#059669", "4xx": "#d97706", "5xx": "#dc2626", "other": "#64748b"}
MOST_CURVES = len(COLOURS)
_DAY_S = 86_400
_LABEL_CHARACTERS = 24
_SIZE = (6.2, 2.5)
_LEGEND_CHARACTERS = 84  # in a line
_INK, _GRID = "#334155", "#e2e8f0"
_STYLE = {
    "svg.hashsalt": "garrison",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.pad": 6,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def draw(
    curves: Mapping[str, Points],
    unit: str,
    span: tuple[float, float],
    *,
    stacked: bool = False,
    limit: float | None = None,
) -> str:
    """Return a plot of curves by their names over a span of time (seconds since the epoch), the largest first.

    `limit` is a line across, where there is one.
    """
    shown = sorted(curves, key=lambda name: (-sum(value for _, value in curves[name]), name))[:MOST_CURVES]
    with mpl.rc_context(_STYLE):
        figure = Figure(_SIZE, layout="constrained")
        axes = figure.subplots()
        colours = {name: CLASS_COLOURS.get(name, COLOURS[number]) for number, name in enumerate(shown)}
        (_draw_areas if stacked else _draw_lines)(axes, {name: curves[name] for name in shown}, colours)
        if limit is not None:
            axes.axhline(limit, color=_INK, linestyle=(0, (4, 3)), linewidth=1)
        _dress(axes, unit, span)
        return _write(figure)


def _draw_lines(axes: Axes, curves: Mapping[str, Points], colours: Mapping[str, str]) -> None:
    for name, points in curves.items():
        axes.plot(
            _times(points), [value for _, value in points], color=colours[name], linewidth=1.6, label=_label(name)
        )


def _draw_areas(axes: Axes, curves: Mapping[str, Points], colours: Mapping[str, str]) -> None:
    times = sorted({time_s for points in curves.values() for time_s, _ in points})
    values = [[dict(points).get(time_s, 0.0) for time_s in times] for points in curves.values()]
    if times:
        moments = _times([(time_s, 0) for time_s in times])
        labels = [_label(name) for name in curves]
        axes.stackplot(
            moments, values, labels=labels, colors=[colours[name] for name in curves], alpha=0.85, linewidth=0
        )


def _dress(axes: Axes, unit: str, span: tuple[float, float]) -> None:
    axes.set_xlim(*_times([(time_s, 0) for time_s in span]))
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    if labels := axes.get_legend_handles_labels()[1]:
        columns = min(4, max(1, _LEGEND_CHARACTERS // (max(map(len, labels)) + 4)))
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(ncols=columns, frameon=False, handlelength=1.2, **place)


def _times(points: Points) -> list[float]:
    return [time_s / _DAY_S for time_s, _ in points]  # matplotlib counts days since the same epoch


def _label(name: str) -> str:
    """Return a curve's name: what no picture can show is escaped, and matplotlib hides labels that begin with `_`."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return (shown if len(shown) <= _LABEL_CHARACTERS else f"{shown[: _LABEL_CHARACTERS - 1]}…").removeprefix(
        "_"
    ) or "(none)"


def _write(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = written.getvalue()
    return re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL)
