"""Owns the picture of a lab run: link, decisions, latency, uplink, fidelity over one time axis. Pure drawing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.summary import answered_in_time

F64 = npt.NDArray[np.float64]

OUTCOME_COLOUR: Mapping[Outcome, str] = {
    Outcome.LOCAL: "#4063d8",
    Outcome.SPLIT: "#2a9d5c",
    Outcome.FRAME: "#17a2b8",
    Outcome.RESUMED: "#e9a21b",
    Outcome.TRACKED: "#9aa0a6",
    Outcome.SHED: "#d64545",
    Outcome.EXPIRED: "#7b1e3a",
}
_INK = "#24292f"
_GRID = "#d9dee3"
_OUTAGE = "#d64545"
_CAPACITY = "#c9d6e8"
_ESTIMATE = "#b5179e"
_BIN_S = 1.0
_SMOOTH_S = 1.0
_STYLE: dict[str, Any] = {"fontsize": 9, "color": _INK}
_LEGEND: dict[str, Any] = {
    "fontsize": 8, "frameon": True, "framealpha": 0.85, "edgecolor": "none", "labelcolor": _INK,
    "handlelength": 1.4, "columnspacing": 1.2, "borderpad": 0.25,
}  # fmt: skip


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


def draw(data: PlotData, *, width_in: float = 11.0) -> Figure:
    """Five stacked panels with one time axis."""
    figure = Figure(figsize=(width_in, 10.4), facecolor="white", layout=ConstrainedLayoutEngine(hspace=0.04))
    FigureCanvasAgg(figure)
    axes = figure.subplots(5, 1, sharex=True, gridspec_kw={"height_ratios": [2.1, 1.5, 2.4, 1.5, 1.5]})
    for draw_panel, panel in zip(
        (_link_panel, _decision_panel, _latency_panel, _uplink_panel, _fidelity_panel), axes, strict=True
    ):
        _dress(panel, data)
        draw_panel(panel, data)
    axes[-1].set_xlabel("seconds since the first frame", **_STYLE)
    axes[-1].set_xlim(0.0, max(data.duration_s, 1.0))
    figure.align_ylabels(axes)
    if data.title:
        figure.suptitle(data.title, fontsize=11, color=_INK, x=0.01, ha="left")
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as one inline `<svg>` element: no XML header, no external resources."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def as_png(figure: Figure, *, dpi: int = 130) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def _dress(panel: Axes, data: PlotData) -> None:
    panel.grid(True, color=_GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=8, length=0)
    for side in ("top", "right", "left", "bottom"):
        panel.spines[side].set_visible(False)
    for start, length in data.outages:
        panel.axvspan(start, start + length, color=_OUTAGE, alpha=0.09, linewidth=0)
    for at in data.kills:
        panel.axvline(at, color=_OUTAGE, linewidth=1.0, linestyle=(0, (2, 2)))


def _times(records: Sequence[FrameRecord]) -> F64:
    return np.asarray([r.captured_ns for r in records], np.float64) / 1e9


def _link_panel(panel: Axes, data: PlotData) -> None:
    times, values = capacity_steps(data)
    if data.capacity:
        panel.fill_between(times, values, step="post", color=_CAPACITY, linewidth=0, label="true capacity")
    seen = [r for r in data.records if r.link.get("bandwidth_bps", 0.0) > 0.0]
    if seen:
        estimate = np.asarray([r.link["bandwidth_bps"] for r in seen]) / 1e6
        panel.plot(_times(seen), estimate, color=_ESTIMATE, linewidth=1.2, label="the edge's estimate")
    if data.capacity:
        top = max([*values, 0.1])
        highest = max((r.link["bandwidth_bps"] / 1e6 for r in seen), default=0.0)
        panel.set_ylim(0.0, max(top * 1.35, min(highest * 1.1, top * 2.2)))
    else:
        panel.set_ylim(bottom=0.0)
    panel.set_ylabel("link\nMbit/s", **_STYLE)
    for start, length in data.outages:
        panel.annotate("outage", (start + length / 2, 0.9), xycoords=("data", "axes fraction"), ha="center",
                       fontsize=8, color=_OUTAGE)
    for at in data.kills:
        panel.annotate("worker killed", (at, 0.76), xycoords=("data", "axes fraction"), xytext=(4, 0),
                       textcoords="offset points", fontsize=8, color=_OUTAGE)
    if data.capacity or seen:
        _legend(panel)


def _decision_panel(panel: Axes, data: PlotData) -> None:
    """One row per outcome that occurred, one tick per frame."""
    rows = [o for o in Outcome if any(r.outcome is o for r in data.records)]
    for place, outcome in enumerate(rows):
        at = _times([r for r in data.records if r.outcome is outcome])
        panel.eventplot([at], lineoffsets=[-place], linelengths=0.8, linewidths=1.3, colors=[OUTCOME_COLOUR[outcome]],
                        rasterized=True)
    total = max(len(data.records), 1)
    shares = [sum(r.outcome is o for r in data.records) / total for o in rows]
    labels = [f"{o.value} {100 * share:.0f}%" if share >= 0.01 else f"{o.value} <1%"
              for o, share in zip(rows, shares, strict=True)]
    panel.set_yticks([-place for place in range(len(rows))], labels)
    panel.set_ylim(-len(rows) + 0.4, 0.6)
    panel.grid(False, axis="y")
    panel.set_ylabel("done as", **_STYLE)


def _latency_panel(panel: Axes, data: PlotData) -> None:
    for outcome in Outcome:
        shown = [r for r in data.records if r.outcome is outcome and r.latency_ms is not None]
        if shown:
            panel.scatter(_times(shown), [r.latency_ms or 0.0 for r in shown], s=7, linewidths=0,
                          color=OUTCOME_COLOUR[outcome], rasterized=True)  # the rows above are the legend
    panel.axhline(data.deadline_ms, color=_INK, linewidth=1.0, linestyle=(0, (5, 3)))
    panel.annotate("deadline", (1.0, data.deadline_ms), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                   textcoords="offset points", ha="right", fontsize=8, color=_INK)
    unanswered = [r for r in data.records if r.latency_ms is None]
    late = max((r.latency_ms or 0.0 for r in data.records), default=0.0)
    top = max(data.deadline_ms * 1.25, min(late * 1.05, data.deadline_ms * 3.0))
    panel.set_ylim(0.0, top)
    if unanswered:
        panel.scatter(_times(unanswered), [top * 0.97] * len(unanswered), s=14, marker="x", linewidths=1.0,
                      color=_OUTAGE, label="no answer", rasterized=True)
    panel.set_ylabel("capture → result\nms", **_STYLE)
    if unanswered:
        _legend(panel)


def _uplink_panel(panel: Axes, data: PlotData) -> None:
    edges = np.arange(0.0, max(data.duration_s, _BIN_S) + _BIN_S, _BIN_S)
    sent, _ = np.histogram(_times(data.records), bins=edges, weights=[r.uplink_bytes for r in data.records])
    if data.capacity:
        times, values = capacity_steps(data)
        panel.step(times, [v * 1e6 / 8e3 for v in values], where="post", color="#8aa4c8", linewidth=1.0,
                   label="true capacity")
    panel.bar(edges[:-1], sent / 1e3 / _BIN_S, width=_BIN_S, align="edge", color=OUTCOME_COLOUR[Outcome.SPLIT],
              alpha=0.75, linewidth=0, label="sent")
    panel.set_ylim(0.0, panel.get_ylim()[1] * 1.25)
    panel.set_ylabel("uplink\nkB/s", **_STYLE)
    _legend(panel)


def _fidelity_panel(panel: Axes, data: PlotData) -> None:
    measured = [r for r in data.records if r.seq in data.fidelity]
    panel.set_ylim(0.0, 1.05)
    panel.set_ylabel("F1 against\nthe full model", **_STYLE)
    if not measured:
        panel.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=9, color="#8a9199")
        return
    timely = [r for r in measured if answered_in_time(r)]
    if timely:
        values = np.asarray([data.fidelity[r.seq] for r in timely])
        panel.scatter(_times(timely), values, s=4, linewidths=0, color="#b8c0c8", rasterized=True)
        at, mean = _rolling(_times(timely), values)
        panel.plot(at, mean, color=_INK, linewidth=1.3, label="mean over 1 s, answers in time")
    misses = [r for r in measured if not answered_in_time(r)]
    if misses:
        panel.scatter(_times(misses), [0.02] * len(misses), s=12, marker="x", linewidths=1.0, color=_OUTAGE,
                      label="missed the deadline", rasterized=True)
    _legend(panel, place="lower left")


def _rolling(at: F64, values: F64) -> tuple[F64, F64]:
    """Mean of the values within half a window around each time."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    low = np.searchsorted(at, at - _SMOOTH_S / 2, side="left")
    high = np.searchsorted(at, at + _SMOOTH_S / 2, side="right")
    return at, (sums[high] - sums[low]) / (high - low)


def _legend(panel: Axes, *, place: Literal["upper left", "lower left"] = "upper left") -> None:
    panel.legend(loc=place, ncols=3, **_LEGEND)
