"""Draw the comparison as an SVG that says the same as the first table."""

from pathlib import Path

HEIGHT_PER_BAR = 0.32


def draw_ratios(compared: dict[str, dict[str, float]], path: Path) -> None:
    """Draw one group of bars per workload, one bar per system; 1 is the best stock configuration."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "garrison"  # the same figures give the same file
    from matplotlib import pyplot

    groups = len(compared)
    bars = max((len(systems) for systems in compared.values()), default=1)
    figure, axes = pyplot.subplots(
        groups or 1, 1, figsize=(8, max(1, groups) * (bars * HEIGHT_PER_BAR + 0.8)), squeeze=False, layout="constrained"
    )
    for axis, (workload, systems) in zip(axes[:, 0], compared.items(), strict=False):
        names = sorted(systems, key=lambda name: systems[name])
        values = [systems[name] for name in names]
        colours = ["#1f6f5c" if name.startswith("Garrison") else "#b8bfc6" for name in names]
        drawn = axis.barh(names, values, color=colours)
        axis.bar_label(drawn, fmt="%.2f", padding=3, fontsize=8)
        axis.axvline(1, color="#444444", linewidth=0.8, linestyle=":")
        axis.set_title(workload, loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.1)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("throughput, best stock configuration = 1", fontsize=9)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
