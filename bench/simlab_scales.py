"""Owns how far times and sizes of a lab run lie from those of the plan, each cause and each codec apart."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from splitmesh.frames.record import FrameRecord
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.sim.plan import SimPlan, Spread, size_sigma, time_sigma
from splitmesh.sim.streams import CHAINED

FEW = 20
"""Of fewer no spread is told apart from chance."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Of measured ÷ profiled. `sigma`: of the log-normal distribution with the same 95 % quantile and, of times, the
    same median, of sizes the same mean: as `sim.plan` has it of the plan's own."""

    median: float = 1.0
    mean: float = 1.0
    sigma: float = 0.0
    count: int = 0

    def sigma_or(self, other: float) -> float:
        """`other` where too little was seen."""
        return self.sigma if self.count >= FEW else other


@dataclass(frozen=True, slots=True)
class Scales:
    """`edge`: model runs, the emulated slowdown apart. `cloud`: what workers do. `encode`, `size`: by codec."""

    edge: Scale = Scale()
    cloud: Scale = Scale()
    encode: Mapping[str, Scale] = field(default_factory=dict)
    size: Mapping[str, Scale] = field(default_factory=dict)

    def encode_factors(self, points: Iterable[OperatingPoint]) -> dict[str, float]:
        """By codec of `points`: one that never ran is taken to be as slow as those that did, each counted as often as
        it ran."""
        if not self.encode:
            return {}
        ran = [scale.median for scale in self.encode.values() for _ in range(scale.count)]
        usual = statistics.median(ran)
        return {
            codec: self.encode[codec].median if codec in self.encode else usual
            for codec in sorted({point.codec for point in points if point.remote})
        }


def scales_of(records: Iterable[FrameRecord], points: Mapping[str, OperatingPoint], *, slowdown: float) -> Scales:
    """Of all parts that ran; runs of a place that the plan has no time for teach nothing."""
    edge: list[float] = []
    cloud: list[float] = []
    encode: dict[str, list[float]] = defaultdict(list)
    size: dict[str, list[float]] = defaultdict(list)
    for record in records:
        point, took = points.get(record.point), record.times_ms
        if point is None:
            continue
        whole = point if point.place is Place.LOCAL else points["local"]
        profiled = {"local": whole.edge_ms, "head": point.edge_ms, "resume": point.resume_ms}
        edge += [took[part] / (slowdown * ms) for part, ms in profiled.items() if part in took and ms > 0]
        if "encode" in took and point.encode_ms > 0:
            encode[point.codec].append(took["encode"] / point.encode_ms)
        if "tail" in took and point.cloud_ms > 0:
            cloud.append((took["decode"] + took["tail"]) / (point.decode_ms + point.cloud_ms))
        if (ratio := size_ratio(record, point)) is not None:
            size[point.codec].append(ratio)
    return Scales(
        _times(edge),
        _times(cloud),
        {codec: _times(found) for codec, found in sorted(encode.items())},
        {codec: _sizes(found) for codec, found in sorted(size.items())},
    )


def size_ratio(record: FrameRecord, point: OperatingPoint) -> float | None:
    """Payload by the plan's mean. None for codecs that code coarser where there is no room, and build on frames that
    no record names: with them size and link are one."""
    told = record.uplink_bytes > 0 and point.payload_bytes > 0
    if not told or (point.key_bytes and point.codec not in CHAINED):
        return None
    key = record.uplink_bytes**2 > point.key_bytes * point.payload_bytes > 0
    return record.uplink_bytes / (point.key_bytes if key else point.payload_bytes)


def spread_as(plan: SimPlan, scales: Scales) -> SimPlan:
    """`plan`, its points untouched, with times and sizes spread as they were measured to be."""

    def spread(point: OperatingPoint) -> Spread:
        was = plan.spread(point)
        return replace(
            was,
            edge=scales.edge.sigma_or(was.edge),
            resume=scales.edge.sigma_or(was.resume),
            decode=scales.cloud.sigma_or(was.decode),
            cloud=scales.cloud.sigma_or(was.cloud),
            encode=scales.encode.get(point.codec, Scale()).sigma_or(was.encode),
            size=scales.size.get(point.codec, Scale()).sigma_or(was.size),
        )

    return replace(plan, spreads={point.name: spread(point) for point in plan.points})


def _times(ratios: Sequence[float]) -> Scale:
    scale, p95 = _scale(ratios)
    return replace(scale, sigma=time_sigma(scale.median, p95))


def _sizes(ratios: Sequence[float]) -> Scale:
    scale, p95 = _scale(ratios)
    return replace(scale, sigma=size_sigma(scale.mean, p95))


def _scale(ratios: Sequence[float]) -> tuple[Scale, float]:
    """(without sigma, 95 % quantile)."""
    known = [ratio for ratio in ratios if ratio > 0]
    if not known:
        return Scale(), 1.0
    median, p95 = np.quantile(known, (0.5, 0.95)).tolist()
    return Scale(median, statistics.fmean(known), 0.0, len(known)), p95
