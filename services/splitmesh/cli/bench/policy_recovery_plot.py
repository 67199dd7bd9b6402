"""Owns the picture of recoveries: a panel per kind of shift, utility over time around it. Pure drawing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from splitmesh.cli.bench.plot import save
from splitmesh.cli.bench.policy_plot import COLOURS, GRID, INK, SOFT

_TITLES: Final = {
    "edge": "edge {edge_factor:g}× slower still",
    "link": "uplink at {link_share:.0%}",
    "worker": "workers {worker_factor:g}× slower",
}
_BAND: Final = "#fbeee6"


def write_recovery_plot(document: Mapping[str, Any], out: Path) -> None:
    """Of `sim.recovery_document`, in the format that the name `out` ends with. Raises OutputError."""
    save(draw_recovery(document), out)


def draw_recovery(document: Mapping[str, Any]) -> Figure:
    """Utility is the mean over runs of the last frames' (a window); the shift is shaded."""
    kinds = document["kinds"]
    with rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT}):
        figure = Figure(figsize=(8.4, 1.4 + 2.0 * len(kinds)), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(len(kinds), 1, sharex=True, squeeze=False).ravel()
        for axes, (kind, entry) in zip(every, kinds.items(), strict=True):
            _panel(axes, kind, entry, document["shift"])
        every[-1].set_xlabel("seconds since the shift began")
        lines = every[0].get_lines()
        figure.legend(
            lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=4, frameon=False
        )
        figure.suptitle(_title(document), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def _panel(axes: Axes, kind: str, entry: Mapping[str, Any], shift: Mapping[str, float]) -> None:
    curve = entry["curve"]
    axes.axvspan(0, shift["length_s"], color=_BAND, linewidth=0, zorder=0)
    axes.plot(curve["t_s"], curve["oracle"], color=INK, linestyle=(0, (4, 1.5)), linewidth=1.2, label="oracle")
    for number, (policy, utilities) in enumerate(curve["policies"].items()):
        width = 2.0 if number == 0 else 1.1
        axes.plot(curve["t_s"], utilities, color=COLOURS[number % len(COLOURS)], linewidth=width, label=policy)
    first, row = next(iter(entry["policies"].items()))
    axes.set_title(f"{_TITLES[kind].format(**shift)}: {_told(first, row)}", loc="left", fontsize=9.5)
    axes.set_ylabel("utility")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelcolor=SOFT)


def _told(policy: str, row: Mapping[str, Any]) -> str:
    if row["frames_p50"] is None:
        return f"{policy} did not come back in {row['never']} of {row['runs']} runs"
    return f"{policy} back after {row['frames_p50']:.0f} frames, worst {_worst(row)} ({row['runs']} runs)"


def _worst(row: Mapping[str, Any]) -> str:
    return "never" if row["frames_worst"] is None else f"{row['frames_worst']:.0f}"


def _title(document: Mapping[str, Any]) -> str:
    slower = ", ".join(f"{each:g}" for each in document["edge_slowdowns"])
    links = len(document["links"])
    length_s = document["shift"]["length_s"]
    runs = f"{links} links, simulated: {document['seeds']} × each"
    return f"{length_s:g} bad seconds over {runs}, edge {slower}× slower"
