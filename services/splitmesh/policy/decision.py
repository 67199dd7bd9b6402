"""Owns the two values that cross the policy's border: what it sees, and what it decides and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from splitmesh.policy.point import OperatingPoint


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame at the moment of decision."""

    now_ns: int
    """Edge monotonic clock."""
    budget_ms: float
    """What is left until the deadline; capture, decode and preprocessing are already paid."""
    device_backlog_ms: float
    """`q_e`: work already promised to the edge's accelerator."""
    frame_period_ms: float
    """Time between captured frames."""
    motion: float = 0.0
    """Mean |Δluma| / 255 against the previous frame, [0, 1]."""
    track_age_ms: float | None = None
    """Age of the newest answer the tracker holds; None: there is nothing to track from."""
    track_carried: float = 1.0
    """How good that answer was to begin with; see `policy.track_fidelity.carried`."""


class Forecast(NamedTuple):
    """What an operating point is expected to give for this frame. A tuple: one is made for every point and frame."""

    point: OperatingPoint
    predicted_ms: float
    """From now to the result."""
    p_hit: float
    """P(result within the budget)."""
    utility: float

    def to_json(self) -> dict[str, Any]:
        return {
            "point": self.point.name,
            "predicted_ms": round(self.predicted_ms, 2),
            "p_hit": round(self.p_hit, 4),
            "utility": round(self.utility, 4),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The same value is the span attribute, the metric label and the line that the dashboard shows."""

    chosen: Forecast
    reason: str
    runners_up: tuple[Forecast, ...] = ()

    @property
    def point(self) -> OperatingPoint:
        return self.chosen.point
