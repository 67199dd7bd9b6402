"""Owns how the rate of a run changes over time, and its integral. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from meshload.errors import LoadError
from meshload.histogram import F64

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h)?")
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def duration_s(text: str, *, what: str) -> float:
    """Seconds of "30s", "150ms", "2m", "1h", or a bare number of seconds. Raises LoadError that names `what`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise LoadError(f"{what}: {text!r} is no duration", advice="write it as 150ms, 30s, 2m or 1h")
    return float(match[1]) * _UNIT_S[match[2]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the run whose rate goes evenly from `start_rps` to `end_rps`."""

    length_s: float
    start_rps: float
    end_rps: float

    @property
    def requests(self) -> float:
        return self.length_s * (self.start_rps + self.end_rps) / 2


class RateCurve:
    """Stages one after the other. Time 0 is the start of the first."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        self.ends_s = list(accumulate(stage.length_s for stage in stages))
        self._sums = np.array([0.0, *accumulate(stage.requests for stage in stages)])
        self._starts = np.array([0.0, *self.ends_s])

    @property
    def length_s(self) -> float:
        return self.ends_s[-1]

    @property
    def requests(self) -> float:
        """How many requests the whole curve asks for, on average."""
        return float(self._sums[-1])

    def rate_rps(self, at_s: float) -> float:
        """The rate at a time; 0 after the end."""
        place = bisect_right(self.ends_s, at_s)
        if place == len(self.stages):
            return 0.0
        stage = self.stages[place]
        share = (at_s - float(self._starts[place])) / stage.length_s
        return stage.start_rps + (stage.end_rps - stage.start_rps) * share

    def times_s(self, asked: F64) -> F64:
        """When the integral of the rate reaches each of `asked`, which are within [0, requests]: (n,) seconds."""
        place = np.clip(np.searchsorted(self._sums, asked, side="right") - 1, 0, len(self.stages) - 1)
        start = np.array([stage.start_rps for stage in self.stages])[place]
        slope = np.array([(s.end_rps - s.start_rps) / s.length_s for s in self.stages])[place]
        wanted = asked - self._sums[place]
        root = np.sqrt(np.maximum(start**2 + 2 * slope * wanted, 0.0))
        within = (
            2 * wanted / np.maximum(start + root, 1e-300)
        )  # of start·t + slope·t²/2 = wanted, without cancellation
        times: F64 = self._starts[place] + within
        return times


def parse_stages(text: str) -> tuple[Stage, ...]:
    """The stages of "30s@100,60s@500,ramp:60s@2000"; a ramp starts where the stage before it ended, or at 0.

    Raises LoadError that names the stage that is wrong.
    """
    stages: list[Stage] = []
    for part in text.split(","):
        ramp = part.strip().startswith("ramp:")
        length, at, rate = part.strip().removeprefix("ramp:").partition("@")
        try:
            end_rps = float(rate)
        except ValueError:
            at = ""
        if not at:
            raise LoadError(f"--stages: {part!r} is no stage", advice="write stages as 30s@100 or ramp:60s@2000")
        length_s = duration_s(length, what=f"--stages: {part!r}")
        if length_s <= 0 or not 0 <= end_rps < 1e7:
            raise LoadError(f"--stages: {part!r} needs a length above 0 and a rate of 0 to 10 million")
        before = stages[-1].end_rps if stages else 0.0
        stages.append(Stage(length_s, before if ramp else end_rps, end_rps))
    if not sum(stage.requests for stage in stages):
        raise LoadError("--stages: the rate is 0 all the time")
    return tuple(stages)
