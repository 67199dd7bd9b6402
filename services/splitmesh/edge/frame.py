"""Owns what one captured frame carries on its way through the edge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from splitmesh.edge.device import DeviceJob
from splitmesh.edge.observer import Foreseen
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.media.captured import Captured
from splitmesh.media.prepare import Prepared
from splitmesh.policy.decision import Decision
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.telemetry.tracing import FrameTrace


@dataclass(slots=True)
class OpenFrame:
    """A frame that was decided and is not settled yet. Times are monotonic ns of this edge."""

    frame_id: str
    captured: Captured
    prepared: Prepared
    decision: Decision
    decided_ns: int
    deadline_ns: int
    trace: FrameTrace
    motion: float
    link: dict[str, float]
    times_ms: dict[str, float] = field(default_factory=dict)
    uplink_bytes: int = 0
    worker: str | None = None
    notes: list[str] = field(default_factory=list)
    readers: list[DeviceJob[Any]] = field(default_factory=list)
    """Jobs that read the prepared tensor."""
    foreseen: Foreseen | None = None
    coarser: OperatingPoint | None = None
    """What went instead of `point`: another level, where the link has no room for its own."""
    unaudited: Answer | None = None
    """In [0, 1] of the model's input: an answer that the whole model may differ from."""

    @property
    def seq(self) -> int:
        return self.captured.seq

    @property
    def point(self) -> OperatingPoint:
        return self.decision.point

    @property
    def sent(self) -> OperatingPoint:
        """`point`, or the coarser one that went instead."""
        return self.coarser or self.point

    @property
    def budget_ms(self) -> float:
        """From the decision to the deadline."""
        return (self.deadline_ns - self.decided_ns) / 1e6

    def fidelity(self, outcome: Outcome) -> float:
        """Expected of an inferred answer: that of the point, unless the model itself ran here in the end."""
        here = outcome is Outcome.LOCAL and self.point.place is not Place.LOCAL
        resumed = outcome is Outcome.RESUMED and not self.point.variant
        return 1.0 if here or resumed else self.sent.fidelity

    def give_back(self) -> None:
        """Return the prepared buffers to their pool, unless the device still reads them; then they are let go."""
        if all(job.left_device for job in self.readers):
            self.prepared.release()

    def timed(self, name: str, start_ns: int, end_ns: int) -> None:
        """Record a part both as a span and in the frame's record."""
        self.times_ms[name] = self.times_ms.get(name, 0.0) + (end_ns - start_ns) / 1e6
        self.trace.span(name, start_ns, end_ns)
