"""Owns what a run takes from a plan: operating points, and how widely their times and sizes are spread."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from splitmesh.plan.bundle.schema import PlanFile, ProfileFile
from splitmesh.policy.point import OperatingPoint, Place

_Z95 = 1.6449
"""95 % quantile of the normal distribution."""
_MOST_SIGMA = 1.0
_FIRST_SIGMA = 0.03
"""Of times that no profile has a 95 % quantile of."""
_KEY_SIGMA = 0.15
"""Of keys where the plan has no codec without state to compare with."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of the logarithms."""

    edge: float = _FIRST_SIGMA
    encode: float = _FIRST_SIGMA
    size: float = 0.0
    key: float = 0.0
    """Of the size of what builds on nothing, for a codec with state."""
    decode: float = _FIRST_SIGMA
    cloud: float = _FIRST_SIGMA
    resume: float = _FIRST_SIGMA


@dataclass(frozen=True, slots=True)
class SimPlan:
    """`spreads`: by name of the point; a point without one is spread as `Spread()` says."""

    points: tuple[OperatingPoint, ...]
    track_kappa: float
    spreads: dict[str, Spread] = field(default_factory=dict)

    def spread(self, point: OperatingPoint) -> Spread:
        return self.spreads.get(point.name, _PLAIN)


_PLAIN = Spread()


def sim_plan(points: tuple[OperatingPoint, ...], plan: PlanFile, profile: ProfileFile) -> SimPlan:
    """`points`: of that plan and profile, any of them. Levels between measured ones are spread as the nearest is."""
    return SimPlan(points, plan.track_kappa, {point.name: _spread(point, plan, profile) for point in points})


def time_sigma(p50: float, p95: float) -> float:
    """Of a log-normal distribution with that median and 95 % quantile; at most 1."""
    return min(max(math.log(p95 / p50) / _Z95, 0.0), _MOST_SIGMA) if p50 > 0 else 0.0


def size_sigma(mean: float, p95: float) -> float:
    """Of a log-normal distribution with that mean and 95 % quantile, `p95 = mean·exp(z·σ − σ²/2)`; at most 1."""
    if mean <= 0 or p95 <= mean:
        return 0.0
    inner = _Z95**2 - 2 * math.log(p95 / mean)
    return min(_Z95 - math.sqrt(inner), _MOST_SIGMA) if inner > 0 else _MOST_SIGMA


def _key_sigma(point: OperatingPoint, plan: PlanFile) -> float:
    """As payloads of codecs without state are spread at the same place."""
    alike = [row for row in plan.rows if row.codec and row.cut == point.cut and not row.key_bytes]
    sigmas = sorted(size_sigma(row.bytes_mean, row.bytes_p95) for row in alike)
    return sigmas[len(sigmas) // 2] if sigmas else _KEY_SIGMA


def _spread(point: OperatingPoint, plan: PlanFile, profile: ProfileFile) -> Spread:
    def of(part: str) -> float:
        timing = profile.times.get(part)
        return time_sigma(timing.p50_ms, timing.p95_ms) if timing else _FIRST_SIGMA

    suffix = f" {point.variant}" if point.variant else ""
    if not point.remote:
        return Spread(edge=of(f"full{suffix}"))
    rows = [row for row in plan.rows if (row.cut, row.codec) == (point.cut, point.codec)]
    if not rows:
        return _PLAIN
    row = min(rows, key=lambda row: (abs(row.level - point.level), row.variant != point.variant))
    tail = of(f"tail {point.cut}") if point.place is Place.SPLIT else of("full")
    return Spread(
        edge=of(f"head {point.cut}{suffix}"),
        encode=of(f"encode {row.point}"),
        size=size_sigma(row.bytes_mean, row.bytes_p95),
        key=_key_sigma(point, plan) if point.key_bytes else 0.0,
        decode=of(f"decode {row.point}"),
        cloud=tail,
        resume=tail,
    )
