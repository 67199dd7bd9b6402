"""Owns holding a lab run against simulations of it: figures of either, verdicts, table and picture. Runs nothing."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench.simlab_scales import FEW
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.policy.point import Place
from splitmesh.sim.result import RunResult, Settled

MIX_POINTS = 5.0
P50_SHARE = 0.10
P95_SHARE = 0.20
_CURVE_POINTS = 201
_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Side:
    """Figures of one run. Latencies are of answered frames, ms, capture to answer; shares are of captured frames."""

    mix: dict[str, float]
    """Where frames were decided to be answered, shares by place; "shed" is what never came to a decision."""
    outcomes: dict[str, float]
    p50_ms: float
    p95_ms: float
    inferred_p50_ms: float | None
    """Of frames that a model answered."""
    inferred_p95_ms: float | None
    hit: float
    fidelity: float | None
    """Mean of frames answered in time."""
    fidelity_by_outcome: dict[str, float]
    """As `fidelity`."""
    bytes_per_frame: float
    """On the uplink. Of the lab all that crossed it, echoes and the broker's own messages included."""
    latencies_ms: tuple[float, ...]
    """0th to 100th percentile in steps of a half, for a curve."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far apart the two are; a tolerance that is kept counts as agreement."""

    mix_points: float
    """Largest difference of a place's share, in points."""
    mix_place: str
    p50_share: float
    p95_share: float
    """|simulated − lab| ÷ lab."""

    @property
    def mix(self) -> bool:
        return self.mix_points <= MIX_POINTS

    @property
    def p50(self) -> bool:
        return self.p50_share <= P50_SHARE

    @property
    def p95(self) -> bool:
        return self.p95_share <= P95_SHARE

    @property
    def agrees(self) -> bool:
        return self.mix and self.p50 and self.p95

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"mix": self.mix, "p50": self.p50, "p95": self.p95, "agrees": self.agrees}


def lab_side(records: Sequence[FrameRecord], summary: Mapping[str, Any], link: Sequence[Mapping[str, Any]]) -> Side:
    """`link`: rows of the emulated link, one per second. Fidelity is the lab's own figure."""
    count = len(records)
    latencies = [r.latency_ms for r in records if r.latency_ms is not None]
    inferred = [r.latency_ms for r in records if r.outcome.inferred and r.latency_ms is not None]
    hits = sum(r.latency_ms is not None and r.latency_ms <= r.deadline_ms for r in records)
    crossed_bytes = sum(row["up"]["taken_bytes"] for row in link)
    return Side(
        mix=_shares([_place(r.point) for r in records]),
        outcomes=_shares([r.outcome.value for r in records]),
        **_latency_figures(latencies, inferred),
        hit=hits / count,
        fidelity=summary["fidelity"],
        fidelity_by_outcome={k: v for k, v in summary["fidelity_by_outcome"].items() if v is not None},
        bytes_per_frame=crossed_bytes / count,
    )


def sim_side(run: RunResult) -> Side:
    frames = run.frames
    answered = [each.latency_ms for each in frames if each.outcome.answered]
    inferred = [each.latency_ms for each in frames if each.outcome.inferred]
    timely = [each for each in frames if each.hit]
    return Side(
        mix=_shares([_place(each.point) for each in frames]),
        outcomes=_shares([each.outcome.value for each in frames]),
        **_latency_figures(answered, inferred),
        hit=len(timely) / len(frames),
        fidelity=_kept(timely),
        fidelity_by_outcome={
            outcome.value: kept
            for outcome in Outcome
            if (kept := _kept([each for each in timely if each.outcome is outcome])) is not None
        },
        bytes_per_frame=run.uplink_bytes / len(frames),
    )


def middle(sides: Sequence[Side]) -> Side:
    """Means over seeds, of everything."""

    def mean(name: str) -> float:
        return statistics.fmean(getattr(side, name) for side in sides)

    def known(name: str) -> float | None:
        values = [value for side in sides if (value := getattr(side, name)) is not None]
        return statistics.fmean(values) if values else None

    def by_key(name: str, *, absent: float | None) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for key in sorted({key for side in sides for key in getattr(side, name)}):
            values = [getattr(side, name).get(key, absent) for side in sides]
            found[key] = [value for value in values if value is not None]
        return {key: statistics.fmean(values) for key, values in found.items()}

    return Side(
        mix=by_key("mix", absent=0.0),
        outcomes=by_key("outcomes", absent=0.0),
        p50_ms=mean("p50_ms"),
        p95_ms=mean("p95_ms"),
        inferred_p50_ms=known("inferred_p50_ms"),
        inferred_p95_ms=known("inferred_p95_ms"),
        hit=mean("hit"),
        fidelity=known("fidelity"),
        fidelity_by_outcome=by_key("fidelity_by_outcome", absent=None),
        bytes_per_frame=mean("bytes_per_frame"),
        latencies_ms=tuple(np.mean([side.latencies_ms for side in sides], axis=0).tolist()),
    )


def verdict(lab: Side, sim: Side) -> Verdict:
    apart = {
        place: 100 * abs(sim.mix.get(place, 0.0) - lab.mix.get(place, 0.0))
        for place in sim.mix.keys() | lab.mix.keys()
    }
    place = max(sorted(apart), key=lambda each: apart[each])
    return Verdict(apart[place], place, abs(sim.p50_ms / lab.p50_ms - 1), abs(sim.p95_ms / lab.p95_ms - 1))


def _place(point: str) -> str:
    return point.partition("/")[0] or Outcome.SHED.value


def _shares(names: Sequence[str]) -> dict[str, float]:
    return {name: times / len(names) for name, times in sorted(Counter(names).items())}


def _kept(frames: Sequence[Settled]) -> float | None:
    return statistics.fmean(each.fidelity for each in frames) if frames else None


def _latency_figures(answered: Sequence[float], inferred: Sequence[float]) -> dict[str, Any]:
    """Raises ValueError if nothing was answered."""
    if not answered:
        raise ValueError("a run without a single answer has no latency")
    p50, p95 = np.percentile(answered, (50, 95)).tolist()
    inferred_p50, inferred_p95 = np.percentile(inferred, (50, 95)).tolist() if inferred else (None, None)
    curve = np.percentile(answered, np.linspace(0, 100, _CURVE_POINTS)).tolist()
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "inferred_p50_ms": inferred_p50,
        "inferred_p95_ms": inferred_p95,
        "latencies_ms": tuple(curve),
    }


# -- table and picture ---------------------------------------------------------------------------------------------

HEAD = (
    "link", "policy", "decided, % (track / local / split / frame)", "apart, points", "p50 ms", "apart", "p95 ms",
    "apart", "in time, %", "fidelity", "bytes per frame",
)  # fmt: skip


def table_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Cells say lab → simulated; what is within its tolerance is bold."""
    rows: list[tuple[str, ...]] = []
    for row in report["rows"]:
        lab, sim, found = row["lab"], row["sim"], row["verdict"]
        rows.append(
            (
                f"`{row['link']}`",
                f"`{row['policy']}`",
                f"{_mix(lab['mix'])} → {_mix(sim['mix'])}",
                _bold(f"{found['mix_points']:.0f} ({found['mix_place']})", found["mix"]),
                f"{lab['p50_ms']:.0f} → {sim['p50_ms']:.0f}",
                _bold(f"{found['p50_share']:.0%}", found["p50"]),
                f"{lab['p95_ms']:.0f} → {sim['p95_ms']:.0f}",
                _bold(f"{found['p95_share']:.0%}", found["p95"]),
                f"{100 * lab['hit']:.1f} → {100 * sim['hit']:.1f}",
                f"{_number(lab['fidelity'])} → {_number(sim['fidelity'])}",
                f"{lab['bytes_per_frame']:.0f} → {sim['bytes_per_frame']:.0f}",
            )
        )
    return rows


def table(report: Mapping[str, Any]) -> str:
    """Markdown for the documents, with what it was measured on."""
    rule = ("---", "---", "---", *["--:"] * (len(HEAD) - 3))
    lines = [f"| {' | '.join(cells)} |" for cells in (HEAD, rule, *table_rows(report))]
    agreed = sum(row["verdict"]["agrees"] for row in report["rows"])
    scales = [row["given"]["scales"] for row in report["rows"]]
    found = {name: [each[name] for each in scales] for name in ("edge", "cloud")}
    found["encode"] = [of for each in scales for of in each["encode"].values() if of["count"] >= FEW]
    spans = ", ".join(f"{name} ×{_span(of)}" for name, of in found.items())
    return "\n".join(lines) + (
        f"\n\nLab → simulated; {agreed} of {len(scales)} agree. One lab run of {report['seconds']:g} s each, means "
        f"of {report['seeds']} simulations; measured ÷ profiled: {spans}; {report['machine']}, {report['date']}."
    )


def _span(scales: Sequence[Mapping[str, float]]) -> str:
    """Smallest to largest, of runs in which the part ran at all."""
    found = sorted(scale["median"] for scale in scales if scale["count"])
    return f"{found[0]:.2f} to {found[-1]:.2f}" if found else "–"


def _mix(mix: Mapping[str, float]) -> str:
    return " / ".join(f"{100 * mix.get(place.value, 0.0):.0f}" for place in Place)


def _bold(text: str, within: bool) -> str:
    return f"**{text}**" if within else text


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """How latency is distributed in the lab and simulated, a panel per row."""
    rows = report["rows"]
    across = min(_COLUMNS, len(rows))
    down = -(-len(rows) // across)
    figure = Figure(figsize=(4.0 * across, 0.4 + 2.8 * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for panel, row in zip(panels, rows, strict=False):
        _panel(panel, row)
    for panel in panels[len(rows) :]:
        panel.set_visible(False)
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, row: Mapping[str, Any]) -> None:
    shares = np.linspace(0, 100, _CURVE_POINTS)
    axes.plot(row["lab"]["latencies_ms"], shares, color="#24292f", linewidth=1.6, label="lab")
    for seed in row["seeds"]:
        axes.plot(seed["latencies_ms"], shares, color="#2a9d5c", linewidth=0.7, alpha=0.35)
    axes.plot(row["sim"]["latencies_ms"], shares, color="#2a9d5c", linewidth=1.6, label="simulated")
    axes.axvline(row["deadline_ms"], color="#b8c4d4", linewidth=1.0)
    axes.set_xlim(0, 1.15 * row["deadline_ms"])
    axes.set_title(f"{row['policy']} · {row['link']}", fontsize=9, loc="left")
    axes.set_xlabel("capture to answer, ms", fontsize=8)
    axes.set_ylabel("% of answered frames", fontsize=8)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
