"""Owns the picture of a comparison of codecs: a panel per cut, fidelity over bytes. Pure drawing.

Codecs of tensors are solid lines in the colours of Okabe and Ito (2008), those of the picture dashed and grey to
black, the same in each panel.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from splitmesh.cli.bench.tables import NAMES
from splitmesh.errors import OutputError
from splitmesh.plan.bd_rate import HIGH, LOW, frontier
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.provision.codec_bench.curves import ANCHORS, PICTURE, Comparison, Curve

_COLOUR = {
    "compact": "#009e73",
    "temporal": "#0072b2",
    "video": "#cc79a7",
    "u8zstd": "#e69f00",
    "u8lz4": "#d55e00",
    "jpeg": "#9aa5b1",
    "webp": "#616e7c",
    "x264_intra": "#7b8794",
    "x264_inter": "#1f2933",
    "roijpeg": "#b88746",
}
_ANCHOR_STYLE = {
    "jpeg": (0, (1, 1.2)),
    "webp": (0, (4, 1.5)),
    "x264_intra": (0, (4, 1.5, 1, 1.5)),
    "x264_inter": "--",
}
_MARK = {"jpeg": "s", "webp": "D", "x264_intra": "^", "x264_inter": "v"}
_INK, _SOFT, _GRID, _BAND = "#1f2933", "#616e7c", "#e4e7eb", "#f0f7f4"
_FORMATS = (".png", ".svg", ".pdf")
_LEAST = 0.70
"""Fidelity at which a panel ends below."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One cut of one comparison."""

    comparison: Comparison
    cut: str
    title: str


def write_plot(comparison: Comparison, out: Path) -> None:
    """A panel per cut, in the format that the name `out` ends with. Raises OutputError."""
    panels = [Panel(comparison, cut, cut) for cut in comparison.cuts]
    save(draw(panels, _title(comparison)), out)


def check_name(out: Path) -> None:
    """Raises OutputError for a name that ends with no format of pictures."""
    if out.suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise OutputError(f"{out} names no format of pictures", path=str(out), advice=f"end it with one of {known}")


def save(figure: Figure, out: Path) -> None:
    """Raises OutputError."""
    check_name(out)
    with io.BytesIO() as data:
        figure.savefig(data, format=out.suffix[1:].lower(), dpi=130)
        write_atomically(out, data.getvalue())


def draw(panels: Sequence[Panel], title: str) -> Figure:
    """All panels with the same axes, at most three in a row."""
    columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    with rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": _INK, "axes.labelcolor": _SOFT}):
        figure = Figure(figsize=(1.2 + 4.4 * columns, 1.5 + 3.5 * rows), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, panel in zip(every, panels, strict=False):
            _draw_panel(axes, panel)
        for axes in every[len(panels) :]:
            axes.set_axis_off()
        for axes in every[len(panels) - columns : len(panels)]:
            axes.set_xlabel("bytes per frame, mean")
            axes.tick_params(labelbottom=True)
        for first in range(0, len(panels), columns):
            every[first].set_ylabel(f"fidelity, {panels[first].comparison.measure}")
        _legend(figure, every[: len(panels)], most=5 * columns)
        title = "\n".join(textwrap.wrap(title, 50 * columns))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _title(comparison: Comparison) -> str:
    frames = comparison.frames
    stills = f" and {frames['images']} pictures" if frames["images"] else ""
    seen = ", which its tables were fitted to" if comparison.calibrated_on_this_footage else ""
    return f"{comparison.model}: the same answer in how many bytes? {frames['video']} frames{stills}{seen}"


def _legend(figure: Figure, every: Iterable[Axes], *, most: int) -> None:
    lines = {str(line.get_label()): line for axes in every for line in axes.get_lines()}
    shown = {name: line for name, line in lines.items() if not name.startswith("_")}
    columns = min(len(shown), most)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, frameon=False)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.axhspan(LOW, HIGH, color=_BAND, linewidth=0, zorder=0)
    mine = [curve for curve in panel.comparison.curves if curve.cut == panel.cut]
    for curve in (*(curve for curve in panel.comparison.curves if curve.cut == PICTURE), *mine):
        _line(axes, curve)
    axes.set_xscale("log")
    axes.set_ylim(_LEAST, 1.004)
    axes.xaxis.set_major_locator(FixedLocator([10.0**p * m for p in range(1, 8) for m in (1, 3)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_bytes))
    axes.yaxis.set_major_locator(MultipleLocator(0.05))
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelcolor=_SOFT)
    axes.set_title(panel.title, loc="left", fontsize=9.5, fontweight="bold")
    saved = _saved(panel.comparison, mine)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.0}
    axes.text(0.985, 0.02, saved, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, bbox=box)


def _line(axes: Axes, curve: Curve) -> None:
    """All levels as marks, the frontier as the line."""
    points = [point for point in curve.points if point.fidelity >= _LEAST - 0.05]
    best = [point for point in frontier(curve.rate) if point.fidelity >= _LEAST - 0.05]
    anchor = curve.cut == PICTURE and curve.codec in ANCHORS
    colour = _COLOUR.get(curve.codec, _INK)
    marker = _MARK.get(curve.codec, "o")
    axes.plot(
        [p.bytes for p in best],
        [p.fidelity for p in best],
        color=colour,
        linestyle=_ANCHOR_STYLE[curve.codec] if anchor else "-",
        linewidth=1.3 if anchor else 2.0,
        marker=marker,
        markersize=3.5 if anchor else 4.5,
        label=NAMES.get(curve.codec, curve.codec),
        zorder=2 if anchor else 3,
    )
    passed = [p for p in points if not any(p.bytes == b.bytes and p.fidelity == b.fidelity for b in best)]
    axes.plot(
        [p.bytes for p in passed],
        [p.fidelity for p in passed],
        linestyle="",
        marker=marker,
        markersize=2.5,
        color=colour,
        alpha=0.35,
        label="_",
    )


def _saved(comparison: Comparison, mine: Sequence[Curve]) -> str:
    """A line per codec that sends fewer bytes than one of the picture's at equal fidelity."""
    lines = []
    for curve in mine:
        rates = {anchor: comparison.against(curve, anchor).percent for anchor in ANCHORS}
        less = [f"{-rate:.0f} % v {NAMES[name]}" for name, rate in rates.items() if rate is not None and rate <= -0.5]
        if less:
            lines.append(f"{curve.codec} saves {', '.join(less)}")
    return "\n".join(lines)


def _bytes(value: float, _position: int) -> str:
    return f"{value / 1e6:g} MB" if value >= 1e6 else f"{value / 1e3:g} kB" if value >= 1e3 else f"{value:g} B"
