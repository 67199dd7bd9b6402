"""Owns measuring how long things take on this machine. Reads the monotonic clock, judges nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from splitmesh.inference.energy import EnergyMeter
from splitmesh.plan.bundle.schema import PartTiming

T = TypeVar("T")

ENERGY_MS = 400.0
ENERGY_RUNS = 2000


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The call's result and how many milliseconds it took."""
    start_ns = time.perf_counter_ns()
    result = call()
    return result, (time.perf_counter_ns() - start_ns) / 1e6


def part_timing(samples_ms: Sequence[float], *, scale: float = 1.0, energy_mj: float | None = None) -> PartTiming:
    """Quantiles of measured times, each times `scale`; zeros if there are none. `energy_mj`: of one run, if known."""
    if not samples_ms:
        return PartTiming(p50_ms=0.0, p95_ms=0.0, runs=0)
    p50, p95 = np.quantile(samples_ms, (0.5, 0.95)) * scale
    return PartTiming(
        p50_ms=round(float(p50), 4), p95_ms=round(float(p95), 4), runs=len(samples_ms), energy_mj=energy_mj
    )


def energy_of_run_mj(call: Callable[[], object], meter: EnergyMeter, *, typical_ms: float) -> float | None:
    """Millijoules that the whole device used per call, over as many calls as take about `ENERGY_MS` together.

    None where the sensor failed or did not move: counters advance in steps, and one run may be shorter than a step.
    """
    runs = min(max(round(ENERGY_MS / max(typical_ms, 1e-3)), 1), ENERGY_RUNS)
    with meter:
        for _ in range(runs):
            call()
    return round(1e3 * meter.joules / runs, 3) if meter.joules else None


def take_turns(
    calls: Mapping[str, Callable[[], object]], *, runs: int = 15, warmup: int = 2, budget_s: float = 6.0
) -> dict[str, list[float]]:
    """Milliseconds of several calls, round after round in turn, so that a busy moment hits all of them alike.

    Stops early when `budget_s` is spent, but not before three rounds.
    """
    for call in calls.values():
        for _ in range(warmup):
            call()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for done in range(runs):
        if done >= 3 and time.perf_counter() - start > budget_s:
            break
        for name, call in calls.items():
            samples[name].append(timed(call)[1])
    return samples


def device_class(device: str, threads: int) -> str:
    """A name for the profile of `device` (see `describe_device`) with so many threads: `[a-z0-9._-]`, at most 64."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"{slug[:56].strip('-') or 'device'}-t{threads}"
