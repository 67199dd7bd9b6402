"""Owns the picture of a comparison of policies: a row per link, a mark per policy at its utility. Pure drawing."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from splitmesh.cli.bench.plot import save
from splitmesh.sim.compare import PolicyComparison

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#1f2933", "#616e7c", "#b88746")
_MARKS = "osD^vPX*<>"
_INK, _SOFT, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
_ROW_INCHES = 0.34


def write_policy_plot(comparison: PolicyComparison, out: Path) -> None:
    """In the format that the name `out` ends with. Raises OutputError."""
    save(draw_policies(comparison), out)


def draw_policies(comparison: PolicyComparison) -> Figure:
    """Links in the order that they were asked for, from the top; bars are 95 % intervals over seeds."""
    document = comparison.document()
    links = list(document["traces"])
    with rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": _INK, "axes.labelcolor": _SOFT}):
        figure = Figure(figsize=(8.4, 1.9 + _ROW_INCHES * len(links)), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for number, policy in enumerate(comparison.wanted.policies):
            rows = [document["traces"][link]["policies"][policy] for link in links]
            half = [(row["ci95"][1] - row["ci95"][0]) / 2 if row["ci95"] else 0.0 for row in rows]
            axes.errorbar(
                [row["utility"] for row in rows],
                range(len(links)),
                xerr=half,
                linestyle="",
                marker=_MARKS[number % len(_MARKS)],
                markersize=6.5 if number == 0 else 5.0,
                color=_COLOURS[number % len(_COLOURS)],
                elinewidth=0.8,
                alpha=0.9,
                label=f"{policy} ({document['overall'][policy]['utility']:.3f})",
                zorder=4 if number == 0 else 3,
            )
        axes.set_yticks(range(len(links)), links)
        axes.invert_yaxis()
        axes.set_xlabel("utility: mean of hit × fidelity")
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0, labelcolor=_SOFT)
        figure.legend(loc="outside lower center", ncols=min(4, len(comparison.wanted.policies)), frameon=False)
        scenario = comparison.wanted.scenario
        title = (
            f"Policies over {len(links)} links, simulated: {comparison.wanted.seeds} × {scenario.duration_s:g} s, "
        )
        title += f"edge {scenario.edge_slowdown:g}× slower, deadline {scenario.deadline_ms:g} ms"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure
