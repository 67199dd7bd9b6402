"""Owns the picture of a lab run: uplink, decisions, latency, fidelity over one time axis. Pure drawing.

Colours are those of Okabe and Ito (2008), told apart with any kind of colour vision. Each panel carries its title,
one sentence that says how to read it, and its legend above the data, never on it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.summary import answered_in_time

F64 = npt.NDArray[np.float64]

OUTCOME_COLOUR: Mapping[Outcome, str] = {
    Outcome.LOCAL: "#0072b2",
    Outcome.SPLIT: "#009e73",
    Outcome.FRAME: "#56b4e9",
    Outcome.RESUMED: "#e69f00",
    Outcome.TRACKED: "#c3c9d0",
    Outcome.SHED: "#d55e00",
    Outcome.EXPIRED: "#882255",
}
_STACK = (
    Outcome.SPLIT, Outcome.FRAME, Outcome.LOCAL, Outcome.RESUMED, Outcome.TRACKED, Outcome.SHED, Outcome.EXPIRED,
)  # fmt: skip
"""Bottom to top: what a model answered, what the tracker did, what nobody did."""
_INK = "#1f2933"
_SOFT = "#616e7c"
_GRID = "#e4e7eb"
_BAD = "#d55e00"
_CAPACITY = "#dde5ee"
_CAPACITY_EDGE = "#9fb3c8"
_SENT = "#5f7d9c"
_ESTIMATE = "#aa3377"
_BIN_S = 1.0
_MIX_BIN_S = 0.5
_SMOOTH_S = 1.0
_HEADROOM = 1.6
"""The link panel ends at so many times the true capacity; an estimate beyond that is cut off."""


@dataclass(frozen=True, slots=True)
class PlotData:
    """What is drawn. Times are seconds since the first captured frame."""

    records: Sequence[FrameRecord]
    deadline_ms: float
    duration_s: float
    fidelity: Mapping[int, float] = field(default_factory=dict)
    """By seq, [0, 1]."""
    capacity: Sequence[tuple[float, float]] = ()
    """(since_s, bits per second): what the link really carries, as steps; empty if unknown."""
    outages: Sequence[tuple[float, float]] = ()
    """(start_s, length_s)."""
    kills: Sequence[float] = ()
    title: str = ""


def capacity_steps(data: PlotData) -> tuple[list[float], list[float]]:
    """The capacity in Mbit/s as points of a step line (post), zero within outages, cut at the run's end."""
    edges = {0.0, data.duration_s}
    edges.update(t for t, _ in data.capacity if 0.0 <= t <= data.duration_s)
    for start, length in data.outages:
        edges.update(t for t in (start, start + length) if 0.0 <= t <= data.duration_s)
    times = sorted(edges)
    known = sorted(data.capacity)
    values = []
    for at in times:
        now = next((bps for since, bps in reversed(known) if since <= at), known[0][1] if known else 0.0)
        out = any(start <= at < start + length for start, length in data.outages)
        values.append(0.0 if out else now / 1e6)
    return times, values


def shares(data: PlotData, bin_s: float = _MIX_BIN_S) -> tuple[F64, dict[Outcome, F64]]:
    """(edges of the bins in s (N + 1,), outcome → share of the frames captured in each bin (N,) in [0, 1])."""
    edges = np.arange(0.0, max(data.duration_s, bin_s) + bin_s, bin_s)
    counts = {o: np.histogram(_times([r for r in data.records if r.outcome is o]), edges)[0] for o in Outcome}
    total = np.maximum(sum(counts.values()), 1)
    return edges, {outcome: count / total for outcome, count in counts.items()}


def draw(data: PlotData, *, width_in: float = 11.0) -> Figure:
    """Four stacked panels with one time axis."""
    with rc_context({"font.family": "sans-serif", "font.size": 9, "text.color": _INK, "axes.labelcolor": _SOFT}):
        figure = Figure(figsize=(width_in, 10.6), facecolor="white")
        FigureCanvasAgg(figure)
        top = 0.915 if data.title else 0.945
        axes = figure.subplots(4, 1, sharex=True, gridspec_kw={
            "height_ratios": [2.2, 1.7, 2.2, 1.5], "hspace": 0.46,
            "left": 0.058, "right": 0.985, "top": top, "bottom": 0.052,
        })  # fmt: skip
        for draw_panel, panel in zip((_link_panel, _mix_panel, _latency_panel, _fidelity_panel), axes, strict=True):
            _dress(panel, data)
            draw_panel(panel, data)
        _name_events(axes[0], data)
        axes[-1].set_xlabel("seconds since the first frame", color=_SOFT)
        axes[-1].set_xlim(0.0, max(data.duration_s, 1.0))
        figure.align_ylabels(axes)
        if data.title:
            figure.text(0.012, 0.985, data.title, fontsize=13, fontweight="bold", va="top")
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as one inline `<svg>` element: no XML header, no external resources."""
    out = io.StringIO()
    figure.savefig(out, format="svg", dpi=200, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def as_png(figure: Figure, *, dpi: int = 130) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def _dress(panel: Axes, data: PlotData) -> None:
    panel.grid(True, color=_GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_SOFT, labelsize=8.5, length=0, labelbottom=True)
    for side in ("top", "right", "left", "bottom"):
        panel.spines[side].set_visible(False)
    for start, length in data.outages:
        panel.axvspan(start, start + length, color=_BAD, alpha=0.09, linewidth=0, zorder=0.5)
    for at in data.kills:
        panel.axvline(at, color=_BAD, linewidth=1.1, linestyle=(0, (2, 2)))


def _name_events(panel: Axes, data: PlotData) -> None:
    """Outages and kills are named once, in the top panel; the bands and lines run through all."""
    words: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "fontsize": 8.5, "color": _BAD}
    for start, length in data.outages:
        panel.annotate(f"outage\n{length:g} s", (start + length / 2, 0.95), ha="center", va="top", **words)
    for at in data.kills:
        panel.annotate("worker killed", (at, 0.7), xytext=(4, 0), textcoords="offset points", **words)


def _head(panel: Axes, title: str, sentence: str, handles: Sequence[Artist] = ()) -> None:
    """Title, how to read the panel, and the legend, in two lines above the data."""
    place: dict[str, Any] = {"xycoords": ("figure fraction", "axes fraction"), "textcoords": "offset points"}
    panel.annotate(title, (0.012, 1.0), xytext=(0, 23), fontsize=11, fontweight="bold", **place)
    panel.annotate(sentence, (0.012, 1.0), xytext=(0, 9), fontsize=9, color=_SOFT, **place)
    if handles:
        above = panel.transAxes + ScaledTranslation(0.0, 22 / 72, panel.figure.dpi_scale_trans)
        panel.legend(
            handles=list(handles), loc="lower right", bbox_to_anchor=(1.0, 1.0), bbox_transform=above,
            ncols=len(handles), frameon=False, fontsize=8.5, labelcolor=_INK, handlelength=1.1, handleheight=0.9,
            handletextpad=0.5, columnspacing=1.3, borderaxespad=0.0, borderpad=0.0,
        )  # fmt: skip


def _times(records: Sequence[FrameRecord]) -> F64:
    return np.asarray([r.captured_ns for r in records], np.float64) / 1e9


def _link_panel(panel: Axes, data: PlotData) -> None:
    handles: list[Artist] = []
    highest = 0.1
    if data.capacity:
        times, values = capacity_steps(data)
        panel.fill_between(times, values, step="post", color=_CAPACITY, linewidth=0)
        panel.step(times, values, where="post", color=_CAPACITY_EDGE, linewidth=0.8)
        handles.append(Patch(facecolor=_CAPACITY, edgecolor=_CAPACITY_EDGE, label="the link can carry"))
        highest = max([highest, *values])
    edges = np.arange(0.0, max(data.duration_s, _BIN_S) + _BIN_S, _BIN_S)
    sent, _ = np.histogram(_times(data.records), edges, weights=[r.uplink_bytes * 8e-6 for r in data.records])
    panel.bar(edges[:-1], sent / _BIN_S, width=_BIN_S * 0.86, align="edge", color=_SENT, linewidth=0)
    handles.append(Patch(facecolor=_SENT, label="sent"))
    highest = max(highest, float(sent.max(initial=0.0)) / _BIN_S)
    seen = [r for r in data.records if r.link.get("bandwidth_bps", 0.0) > 0.0]
    if seen:
        estimate = np.asarray([r.link["bandwidth_bps"] for r in seen]) / 1e6
        panel.plot(_times(seen), estimate, color=_ESTIMATE, linewidth=1.0, alpha=0.9)
        handles.append(Line2D([], [], color=_ESTIMATE, linewidth=1.6, label="the edge believes"))
        if not data.capacity:
            highest = max(highest, float(estimate.max()))
    panel.set_ylim(0.0, highest * _HEADROOM)
    panel.set_ylabel("Mbit/s")
    _head(panel, "Uplink", "what the link could carry, what the edge sent over it, what it thought of it", handles)


def _mix_panel(panel: Axes, data: PlotData) -> None:
    """Shares of the outcomes per half second, stacked to 100 %."""
    edges, by_outcome = shares(data)
    below = np.zeros(len(edges) - 1)
    total, handles = max(len(data.records), 1), []
    for outcome in _STACK:
        count = sum(r.outcome is outcome for r in data.records)
        if not count:
            continue
        value = by_outcome[outcome]
        panel.bar(edges[:-1], value, bottom=below, width=_MIX_BIN_S, align="edge", linewidth=0, antialiased=False,
                  color=OUTCOME_COLOUR[outcome], rasterized=True)  # fmt: skip
        below = below + value
        shown = f"{100 * count / total:.0f} %" if count / total >= 0.01 else "<1 %"
        handles.append(Patch(facecolor=OUTCOME_COLOUR[outcome], label=f"{outcome.value} {shown}"))
    panel.set_ylim(0.0, 1.0)
    panel.yaxis.set_major_locator(FixedLocator([0.0, 0.5, 1.0]))
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_ylabel("of the frames")
    _head(panel, "How frames were answered", "share of each way, per half second", handles)


def _latency_panel(panel: Axes, data: PlotData) -> None:
    for outcome in Outcome:
        shown = [r for r in data.records if r.outcome is outcome and r.latency_ms is not None]
        if shown:
            panel.scatter(_times(shown), [r.latency_ms or 0.0 for r in shown], s=8, linewidths=0,
                          color=OUTCOME_COLOUR[outcome], rasterized=True)  # fmt: skip
    late = max((r.latency_ms or 0.0 for r in data.records), default=0.0)
    top = max(data.deadline_ms * 1.3, min(late * 1.05, data.deadline_ms * 3.0))
    panel.axhspan(data.deadline_ms, top, color=_BAD, alpha=0.06, linewidth=0, zorder=0.4)
    panel.axhline(data.deadline_ms, color=_INK, linewidth=1.1)
    panel.annotate(f"too late: deadline {data.deadline_ms:g} ms", (1.0, data.deadline_ms), ha="right", fontsize=8.5,
                   xycoords=("axes fraction", "data"), xytext=(-5, 4), textcoords="offset points")  # fmt: skip
    panel.set_ylim(0.0, top)
    handles: list[Artist] = []
    unanswered = [r for r in data.records if r.latency_ms is None]
    if unanswered:
        handles.append(panel.scatter(_times(unanswered), [top * 0.96] * len(unanswered), s=16, marker="x",
                                     linewidths=1.1, color=_BAD, label="no answer", rasterized=True))  # fmt: skip
    panel.set_ylabel("ms")
    _head(panel, "Latency", "one dot per frame, from its capture to its result, coloured as above", handles)


def _fidelity_panel(panel: Axes, data: PlotData) -> None:
    measured = [r for r in data.records if r.seq in data.fidelity]
    panel.set_ylim(-0.04, 1.06)
    panel.yaxis.set_major_locator(FixedLocator([0.0, 0.5, 1.0]))
    panel.set_ylabel("agreement")
    handles: list[Artist] = []
    timely = [r for r in measured if answered_in_time(r)]
    if timely:
        values = np.asarray([data.fidelity[r.seq] for r in timely])
        colours = [OUTCOME_COLOUR[r.outcome] for r in timely]
        panel.scatter(_times(timely), values, s=6, linewidths=0, c=colours, rasterized=True)
        at, mean = _rolling(_times(timely), values)
        handles += panel.plot(at, mean, color=_INK, linewidth=1.4, label="mean over 1 s")
    misses = [r for r in measured if not answered_in_time(r)]
    if misses:
        handles.append(panel.scatter(_times(misses), [0.0] * len(misses), s=16, marker="x", linewidths=1.1,
                                     color=_BAD, label="missed the deadline", rasterized=True))  # fmt: skip
    if not measured:
        panel.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", color=_SOFT)
    sentence = "agreement of each answer with the whole, unsplit fp32 model on the same picture; 1 is the same answer"
    _head(panel, "Fidelity", sentence, handles)


def _rolling(at: F64, values: F64) -> tuple[F64, F64]:
    """Mean of the values within half a window around each time."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    low = np.searchsorted(at, at - _SMOOTH_S / 2, side="left")
    high = np.searchsorted(at, at + _SMOOTH_S / 2, side="right")
    return at, (sums[high] - sums[low]) / (high - low)
