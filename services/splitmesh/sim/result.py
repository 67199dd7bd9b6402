"""Owns what a simulated run leaves behind, and the figures that are made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from splitmesh.frames.outcome import Outcome
from splitmesh.policy.energy import PowerModel
from splitmesh.sim.staleness import held_fidelity


@dataclass(frozen=True, slots=True)
class Settled:
    """One captured frame, in the order of capture."""

    outcome: Outcome
    point: str
    latency_ms: float
    """Capture to answer; of frames without one: to when they were given up."""
    hit: bool
    """An answer of any kind came within the deadline."""
    fidelity: float
    """Of the answer, [0, 1]; 0 without one."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from capture to answer, over all captured frames: none is left out for having none.

    A late answer counts with the time that it took, a frame without one with the time until it was given up, and
    neither with less than the slowest answer in time: what is missed never ranks before what was not.
    """

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. `utility`: mean over frames of hit × fidelity."""

    utility: float
    hit: float
    fidelity: float
    inferred: float
    """Share of frames that a model answered within the deadline: not the tracker."""
    held_fidelity: float | None
    """Of the answer that a consumer holds, over time; see `staleness.held_fidelity`. None where nothing ages."""
    latency_ms: Latency
    bytes_per_frame: float
    """Payloads, what messages add, probes; echoes and cancellations left out."""
    switches_per_min: float
    """Changes of the decided point from one frame to the next, tracked ones passed over."""
    decisions: dict[str, int]
    """Frames by decided point."""
    outcomes: dict[str, int]
    """`{"captured": n, "local": n, …}`."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """`frames`: every captured one. Two runs of the same ingredients are equal."""

    frames: tuple[Settled, ...]
    uplink_bytes: int
    outcomes: dict[str, int]
    span_s: float
    events: int
    device_ms: float = 0.0
    """For which the edge's device ran models."""

    @property
    def utilities(self) -> list[float]:
        """Per frame, hit × fidelity."""
        return [each.fidelity if each.hit else 0.0 for each in self.frames]

    def average_w(self, model: PowerModel) -> float:
        """Power drawn by the edge, W, if it is such a device."""
        return model.average_w(self.device_ms, self.uplink_bytes, self.span_s)

    def figures(self, ageing: Sequence[float] | None = None) -> Figures:
        """ageing: per frame, how much the scene has aged until it, κ times what it has travelled; see Draws."""
        slowest_ms = max((each.latency_ms for each in self.frames if each.hit), default=0.0)
        latencies = np.array([max(each.latency_ms, 0.0 if each.hit else slowest_ms) for each in self.frames])
        p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).tolist()
        points = [each.point for each in self.frames if each.point != "track"]
        switches = sum(a != b for a, b in pairwise(points))
        count = len(self.frames)
        return Figures(
            utility=sum(self.utilities) / count,
            hit=sum(each.hit for each in self.frames) / count,
            fidelity=sum(each.fidelity for each in self.frames) / count,
            inferred=sum(each.hit and each.outcome.inferred for each in self.frames) / count,
            held_fidelity=held_fidelity(self.frames, ageing, period_s=self.span_s / count) if ageing else None,
            latency_ms=Latency(float(latencies.mean()), p50, p95, p99),
            bytes_per_frame=self.uplink_bytes / count,
            switches_per_min=switches / self.span_s * 60,
            decisions=dict(sorted(Counter(each.point for each in self.frames).items())),
            outcomes=self.outcomes,
        )
