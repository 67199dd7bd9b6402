"""Owns what a lab run comes down to: the summary as a value and its JSON. Pure: records in, numbers out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splitmesh.frames.record import FrameRecord
from splitmesh.lab.records import RunRecords
from splitmesh.lab.savings import savings
from splitmesh.lab.strikes import Strike
from splitmesh.plan.bundle.schema import RateRow


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What was asked for and what happened around the frames; everything that the records do not know."""

    policy: str
    model: str
    model_sha256: str
    source: str
    link: str
    deadline_ms: float
    duration_s: float
    """First captured frame to last result."""
    edge_slowdown: float
    outages: tuple[tuple[float, float], ...] = ()
    """(start_s, length_s) since the run's start."""
    worker_kills: tuple[float, ...] = ()
    """When a worker was killed on purpose, seconds since the run's start."""
    strikes: tuple[Strike, ...] = ()
    """What was done by hand while it ran, kills among it."""
    link_accuracy: Mapping[str, Any] = field(default_factory=dict)
    """How well the emulated link kept to its trace, and the edge's estimate to the link."""
    versions: Mapping[str, str] = field(default_factory=dict)
    incidents: tuple[str, ...] = ()
    """What went wrong on its own (a child that died, …), in words."""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Agreement of each frame's answer with the unsplit fp32 model on the same picture."""

    by_seq: Mapping[int, float]
    """`frames.fidelity.agreement` in [0, 1]; 0 for frames without an answer. Frames left out of a bounded sample are
    absent."""
    pictures: int
    """Distinct pictures that the full model ran on."""
    skipped: str = ""
    """Why nothing was measured; "" if it was."""
    measure: str = "F1@IoU0.5"
    """What agreement is for this model, in words."""

    @staticmethod
    def none(why: str) -> Fidelity:
        return Fidelity({}, 0, why)


def answered_in_time(record: FrameRecord) -> bool:
    """An answer of any kind, within the deadline. Recomputed here: the edge's own flag is not trusted."""
    latency = record.latency_ms
    return record.outcome.answered and latency is not None and latency <= record.deadline_ms


def inferred_in_time(record: FrameRecord) -> bool:
    """Answered in time by a model rather than by carrying over an earlier answer."""
    return record.outcome.inferred and answered_in_time(record)


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """`{"p50", "p95", "p99"}`, all None for no values."""
    if not values:
        return {"p50": None, "p95": None, "p99": None}
    found = np.percentile(np.asarray(values, np.float64), (50, 95, 99))
    return {name: round(float(v), 2) for name, v in zip(("p50", "p95", "p99"), found, strict=True)}


def mean_fidelity(records: Sequence[FrameRecord], fidelity: Fidelity) -> float | None:
    """Mean over `records` that were measured; None if none was."""
    values = [fidelity.by_seq[r.seq] for r in records if r.seq in fidelity.by_seq]
    return float(np.mean(values)) if values else None


def _by_outcome(timely: Sequence[FrameRecord], fidelity: Fidelity) -> dict[str, float | None]:
    return {
        outcome.value: _rounded(mean_fidelity([r for r in timely if r.outcome is outcome], fidelity))
        for outcome in sorted({r.outcome for r in timely})
    }


def _by_point(timely: Sequence[FrameRecord], fidelity: Fidelity) -> dict[str, float | None]:
    """Of frames that were answered where they were decided to be, so that it compares with what the plan promised."""
    decided = [r for r in timely if r.outcome.value == r.point.partition("/")[0]]
    return {
        point: _rounded(mean_fidelity([r for r in decided if r.point == point], fidelity))
        for point in sorted({r.point for r in decided})
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def emulation_note(edge_slowdown: float) -> str:
    """One honest sentence on what in a lab run is real and what is emulated."""
    slow = (
        f"the edge's model runs are stretched ×{edge_slowdown:g} by waiting to stand in for a smaller device"
        if edge_slowdown > 1.0
        else "the edge's model runs take the time they take on this machine"
    )
    return (
        "Everything ran on this one machine: the model, the codecs, the broker and both processes are real, "
        f"the link is a traffic shaper that follows a bandwidth trace, and {slow}."
    )


def summarise(run: RunRecords, facts: RunFacts, fidelity: Fidelity, rows: Sequence[RateRow] = ()) -> dict[str, Any]:
    """The summary as JSON-ready values: no NaN, `None` where nothing was measured. The keys are a public contract.

    rows: of the plan that the edge chose from.
    """
    records = run.records
    captured = run.captured
    timely = [r for r in records if answered_in_time(r)]
    hit = len(timely) / captured if captured else None
    inferred = sum(map(inferred_in_time, records)) / captured if captured else None
    mean = mean_fidelity(timely, fidelity)
    score = None if hit is None or mean is None else hit * mean
    summary: dict[str, Any] = {
        "frames": run.counts(),
        "conserved": run.conserved,
        "faults": run.faults(),
        "latency_ms": percentiles([r.latency_ms for r in records if r.latency_ms is not None]),
        "deadline_ms": facts.deadline_ms,
        "deadline_hit": _rounded(hit),
        "inferred_hit": _rounded(inferred),
        "fidelity": _rounded(mean),
        "fidelity_by_outcome": _by_outcome(timely, fidelity),
        "fidelity_by_point": _by_point(timely, fidelity),
        "fidelity_pictures": fidelity.pictures,
        "fidelity_measure": fidelity.measure,
        "fidelity_note": fidelity.skipped
        or f"mean {fidelity.measure} against the unsplit fp32 model, frames answered in time",
        "score": _rounded(score),
        "uplink_bytes": sum(r.uplink_bytes for r in records),
        "codec_saved": [saving.to_json() for saving in savings(records, rows)],
        "decisions": dict(Counter(r.point for r in records if r.point).most_common()),
        "policy": facts.policy,
        "link": facts.link,
        "link_accuracy": dict(facts.link_accuracy),
        "model": facts.model,
        "model_sha256": facts.model_sha256,
        "source": facts.source,
        "edge_slowdown": facts.edge_slowdown,
        "emulation": emulation_note(facts.edge_slowdown),
        "outages": [{"start_s": start, "length_s": length} for start, length in facts.outages],
        "worker_kills": [round(at, 2) for at in facts.worker_kills],
        "strikes": [strike.to_json() for strike in facts.strikes],
        "incidents": list(facts.incidents),
        "interrupted": facts.interrupted,
        "duration_s": round(facts.duration_s, 2),
        "versions": dict(facts.versions),
    }
    checked: dict[str, Any] = finite(summary)
    return checked


def finite(value: Any) -> Any:
    """`value` with every NaN or infinity, which JSON does not have, turned into None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value
