"""Owns the figures that every report of a plan shows, each computed in one place. Formats nothing."""

from __future__ import annotations

from dataclasses import dataclass

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import CutEntry, PartTiming, PlanFile, RateRow
from splitmesh.policy.point import OperatingPoint, Place

GOOD_FIDELITY = 0.98
"""Reports name the fewest bytes that keep this much."""


@dataclass(frozen=True, slots=True)
class CutFigures:
    """One kept cut and what this profile measured of it, in milliseconds; None where nothing was."""

    entry: CutEntry
    edge: PartTiming | None
    """The head, stretched by the profile's slowdown."""
    cloud: PartTiming | None
    """The tail, as measured."""
    share: float | None
    """Measured share of the head: head / (head + tail), both at full speed, [0, 1]."""


def cut_figures(bundle: Bundle) -> tuple[CutFigures, ...]:
    """In the order of the graph."""
    return tuple(_cut(bundle, entry) for entry in sorted(bundle.cuts, key=lambda c: (c.node_index, c.name)))


def _cut(bundle: Bundle, entry: CutEntry) -> CutFigures:
    head, tail = timing(bundle, f"head {entry.name}"), timing(bundle, f"tail {entry.name}")
    share = head.p50_ms / (head.p50_ms + tail.p50_ms) if head and tail and head.p50_ms + tail.p50_ms > 0 else None
    return CutFigures(entry, stretched(head, slowdown(bundle)), tail, share)


def timing(bundle: Bundle, part: str) -> PartTiming | None:
    """What the selected profile says of `part`, or None."""
    return bundle.profile.times.get(part) if bundle.profile else None


def slowdown(bundle: Bundle) -> float:
    """How many times slower than the device that measured the edge is taken to be, ≥ 1."""
    return bundle.profile.edge_slowdown if bundle.profile else 1.0


def stretched(measured: PartTiming | None, factor: float) -> PartTiming | None:
    """The same part on an edge `factor` times slower; nothing is known of its energy unless `factor` is 1."""
    if measured is None or factor == 1:
        return measured
    changes = {"p50_ms": measured.p50_ms * factor, "p95_ms": measured.p95_ms * factor, "energy_mj": None}
    return measured.model_copy(update=changes)


def kept_points(bundle: Bundle) -> tuple[OperatingPoint, ...]:
    """Operating points that run the model: local ones, then by cut in graph order, most bytes first.

    Tracking is left out: what it keeps depends on age and motion, so it has no fixed fidelity.
    """
    order = {figures.entry.name: index for index, figures in enumerate(cut_figures(bundle))}

    def rank(point: OperatingPoint) -> tuple[int, int, float, str]:
        place = {Place.LOCAL: 0, Place.SPLIT: 1}.get(point.place, 2)
        return (place, order.get(point.cut, -1), -point.payload_bytes, point.name)

    return tuple(sorted((p for p in bundle.points if p.place is not Place.TRACK), key=rank))


def rows_by_point(plan: PlanFile) -> dict[str, RateRow]:
    """Every measured row by the name of its operating point."""
    return {row.point: row for row in plan.rows}


def fewest_bytes(plan: PlanFile, fidelity: float = GOOD_FIDELITY) -> RateRow | None:
    """The row that sends least and keeps at least `fidelity`; None if no row does."""
    good = [row for row in plan.rows if row.codec and row.fidelity >= fidelity]
    return min(good, key=lambda row: (row.bytes_mean, row.point), default=None)
