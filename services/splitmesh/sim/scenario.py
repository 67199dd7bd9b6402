"""Owns what a simulated run is of, beside plan, policy and link: camera, device, workers, and what befalls them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from splitmesh.errors import SettingsError
from splitmesh.policy.fidelity import erring
from splitmesh.policy.point import OperatingPoint
from splitmesh.settings.units import Outage


class Burst(NamedTuple):
    """From `start_s`, for `length_s`, everything takes `factor` times as long."""

    start_s: float
    length_s: float
    factor: float


class Loss(NamedTuple):
    """Worker number `worker` is gone for `length_s` from `start_s`; it comes back with no memory."""

    worker: int
    start_s: float
    length_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """Times of bursts, losses and outages count from the run's start. Raises SettingsError for what can't be."""

    duration_s: float = 60.0
    """Frames are captured for so long; what is under way then is waited for."""
    fps: float = 25.0
    deadline_ms: float = 150.0
    prepare_ms: float = 5.0
    """From capture to decision; in bench/results/lab.json frames that are tracked at once take 5 to 8 ms."""
    prepare_quantiles_ms: tuple[float, ...] = ()
    """The same where it is not always alike: its distribution's quantiles at even steps from the least to the most,
    drawn from for each frame by itself. Empty: `prepare_ms`. A frame is never decided before the one before it."""
    stack_ms: float = 2.5
    """What a message takes each way beside the link: sockets, broker, event loops. Medians of lab runs on two cores
    lie at 2.8 to 3.6, and there the link's own process is part of it."""
    handover_ms: Mapping[str, float] = field(default_factory=dict)
    """By place: what a frame takes there beside all that is timed, from loop to device and codec and back."""
    edge_slowdown: float = 5.0
    """Model runs on the edge take so many times what the plan's profile says; codecs do not."""
    workers: int = 1
    slots: int = 1
    """Requests that a worker serves at a time."""
    trace_start_s: float = 0.0
    """Where in the link's trace the run begins."""
    queue_bytes: int = 1_000_000
    """Of the uplink: while more than that waits, nothing is handed to it. Nothing is ever dropped: it is TCP."""
    motion: float = 0.05
    """Median of the picture's motion, mean |Δluma| / 255."""
    motion_spread: float = 0.4
    """Standard deviation of its logarithm, which is a first-order walk with a memory of `memory_s`."""
    motions: tuple[float, ...] = ()
    """The motion of each picture against the one before it, over and over again, in place of such a walk."""
    memory_s: float = 2.0
    """Of what is in the picture: how long motion and payload sizes stay what they are."""
    track_kappa: float | None = 70.0
    """κ of `exp(−κ·(motion + floor)·age)`, what a tracked answer really keeps; None: what the plan believes. 70 and
    a motion of 0.05 give the 0.53 that tracked frames of local-only keep in bench/results/lab.json."""
    encode_scales: Mapping[str, float] = field(default_factory=dict)
    """By codec: encoders take so many times what the plan's profile says. 1 for those that are not named."""
    size_scales: Mapping[str, float] = field(default_factory=dict)
    """By codec: payloads are so many times as large as the plan's mean. 1 for those that are not named."""
    error_ratios: Mapping[str, float] = field(default_factory=dict)
    """By codec, else by place: answers err so many times as much as the plan says. 1 for those that are not named."""
    edge_bursts: tuple[Burst, ...] = ()
    worker_bursts: tuple[Burst, ...] = ()
    losses: tuple[Loss, ...] = ()
    outages: tuple[Outage, ...] = ()
    """On top of those of the link's trace."""

    def __post_init__(self) -> None:
        for name in ("duration_s", "fps", "deadline_ms", "edge_slowdown", "workers", "slots", "memory_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must be above 0, not {getattr(self, name):g}", key=name)
        if not 0 <= self.prepare_ms < min(self.deadline_ms, 1000 / self.fps):
            reason = "must be shorter than the deadline and than the time between frames"
            raise SettingsError(f"prepare_ms {reason}, not {self.prepare_ms:g}", key="prepare_ms")
        self._check_drawn()
        for loss in self.losses:
            if not 0 <= loss.worker < self.workers:
                raise SettingsError(f"there is no worker {loss.worker} to lose", key="losses")

    def _check_drawn(self) -> None:
        for name, of in (("stack_ms", (self.stack_ms,)), ("handover_ms", self.handover_ms.values())):
            if not all(0 <= each < math.inf for each in of):
                raise SettingsError(f"{name} must be finite and not negative", key=name)
        around = (0.0, *self.prepare_quantiles_ms, self.deadline_ms)
        if any(low > high for low, high in pairwise(around)):
            reason = "must ascend from 0 or more to the deadline or less"
            raise SettingsError(f"prepare_quantiles_ms {reason}", key="prepare_quantiles_ms")
        if not all(0 <= motion <= 1 for motion in self.motions):
            raise SettingsError("motions must lie between 0 and 1", key="motions")
        for name in ("encode_scales", "size_scales"):
            for codec, scale in getattr(self, name).items():
                if not 0 < scale < math.inf:
                    raise SettingsError(f"{name} must be above 0, not {scale:g} for {codec}", key=name)
        for name, ratio in self.error_ratios.items():
            if not 0 <= ratio < math.inf:
                raise SettingsError(f"error_ratios must be 0 or more, not {ratio:g} for {name}", key="error_ratios")

    def true_fidelity(self, planned: OperatingPoint) -> float:
        """What answers of a point really keep that the plan has as `planned`; the whole model's own are exact."""
        place = planned.place.value
        return erring(
            planned.fidelity, self.error_ratios.get(planned.codec or place, self.error_ratios.get(place, 1.0))
        )

    @property
    def frames(self) -> int:
        return math.ceil(self.duration_s * self.fps - 1e-9)

    @property
    def period_ns(self) -> int:
        return round(1e9 / self.fps)


def slowed(bursts: tuple[Burst, ...], now_ns: int) -> float:
    """How many times as long something takes that begins now."""
    factor = 1.0
    for burst in bursts:
        if burst.start_s * 1e9 <= now_ns < (burst.start_s + burst.length_s) * 1e9:
            factor *= burst.factor
    return factor
