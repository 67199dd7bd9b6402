"""Owns what a simulated run leaves behind, and the figures that are made of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from splitmesh.frames.outcome import Outcome


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
    """Milliseconds from capture to answer. Frames that were given up count with the time until then."""

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

    def figures(self) -> Figures:
        latencies = np.array([each.latency_ms for each in self.frames])
        p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).tolist()
        points = [each.point for each in self.frames if each.point != "track"]
        switches = sum(a != b for a, b in pairwise(points))
        count = len(self.frames)
        return Figures(
            utility=sum(each.fidelity for each in self.frames if each.hit) / count,
            hit=sum(each.hit for each in self.frames) / count,
            fidelity=sum(each.fidelity for each in self.frames) / count,
            latency_ms=Latency(float(latencies.mean()), p50, p95, p99),
            bytes_per_frame=self.uplink_bytes / count,
            switches_per_min=switches / self.span_s * 60,
            decisions=dict(sorted(Counter(each.point for each in self.frames).items())),
            outcomes=self.outcomes,
        )
