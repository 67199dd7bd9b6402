"""Owns the picture of a comparison of policies: a row per link or set, a mark per policy. Pure drawing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from splitmesh.cli.bench.plot import save

COLOURS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#882255", "#616e7c", "#b88746", "#7b3294",
    "#a6611a", "#4d9221",
)  # fmt: skip
_MARKS = "osD^vPX*<>hd"
INK: Final = "#1f2933"
SOFT: Final = "#616e7c"
GRID: Final = "#e4e7eb"
_ROW_INCHES = 0.34
_MARGIN = 0.04
_MOST_LINKS = 16
"""With more, rows are sets of links."""


class Row(NamedTuple):
    label: str
    policies: Mapping[str, tuple[float, float]]
    """Policy → utility, half its interval."""


def write_policy_plot(document: Mapping[str, Any], out: Path) -> None:
    """Of `sim.document.document`, in the format that the name `out` ends with. Raises OutputError."""
    save(draw_policies(document), out)


def draw_policies(document: Mapping[str, Any]) -> Figure:
    """From the top in the order that was asked for. Bars are 95 % intervals: of a link's utility over seeds, of a
    set's those of the first policy's lead over that policy."""
    rows = rows_of(document)
    policies = list(document["overall"])
    with rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT}):
        figure = Figure(figsize=(8.4, 2.2 + _ROW_INCHES * len(rows)), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for number, policy in enumerate(policies):
            axes.errorbar(
                [row.policies[policy][0] for row in rows],
                range(len(rows)),
                xerr=[row.policies[policy][1] for row in rows],
                linestyle="",
                marker=_MARKS[number % len(_MARKS)],
                markersize=6.5 if number == 0 else 5.0,
                color=COLOURS[number % len(COLOURS)],
                elinewidth=0.8,
                alpha=0.9,
                label=f"{policy} ({document['overall'][policy]['utility']:.3f})",
                zorder=4 if number == 0 else 3,
            )
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        least = min(utility for row in rows for utility, _ in row.policies.values())
        axes.set_xlim(max(0.0, least - _MARGIN) - 0.01, 1.01)  # bars of two seeds reach far beyond what there is
        axes.set_xlabel("utility: mean of hit × fidelity")
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0, labelcolor=SOFT)
        figure.legend(loc="outside lower center", ncols=min(4, len(policies)), frameon=False)
        figure.suptitle(_title(document), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def rows_of(document: Mapping[str, Any]) -> list[Row]:
    """A row per link, or per set and slowdown where there are many links."""
    if len(document["traces"]) <= _MOST_LINKS:
        return [
            Row(name, {policy: (row["utility"], _half(row["ci95"])) for policy, row in entry["policies"].items()})
            for name, entry in document["traces"].items()
        ]
    return [
        Row(
            f"{group['set']} ({group['traces']}), edge {group['edge_slowdown']:g}×",
            {policy: (row["utility"], _half(row["first_ahead_ci95"])) for policy, row in group["policies"].items()},
        )
        for group in document["leaderboard"]
    ]


def _half(interval: list[float] | None) -> float:
    return (interval[1] - interval[0]) / 2 if interval else 0.0


def _title(document: Mapping[str, Any]) -> str:
    scenario = document["scenario"]
    count = len({entry["trace"] for entry in document["traces"].values()})
    slower = ", ".join(f"{each:g}" for each in document["edge_slowdowns"])
    return (
        f"Policies over {count} links, simulated: {document['seeds']} × {scenario['duration_s']:g} s, "
        f"edge {slower}× slower, deadline {scenario['deadline_ms']:g} ms"
    )
