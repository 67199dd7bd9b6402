"""Owns what one captured frame carries on its way through the simulated edge."""

from __future__ import annotations

from dataclasses import dataclass

from splitmesh.frames.outcome import Outcome
from splitmesh.policy.decision import Decision
from splitmesh.policy.point import OperatingPoint, Place


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the tracker would have said of a frame when it was decided."""

    kept: float
    """Agreement with what the model would say, [0, 1]."""
    age_ms: float
    carried: float
    """How good the answer that it was carried on from was believed to be."""


@dataclass(eq=False, slots=True)
class Frame:
    """Times in virtual ns. `seq` is also its index among the run's draws."""

    seq: int
    captured_ns: int
    decided_ns: int
    deadline_ns: int
    motion: float
    decision: Decision
    foreseen: Foreseen | None = None
    coarser: OperatingPoint | None = None
    """What went instead of `point`, as the edge believes it."""
    kept: float = 1.0
    """Share of the point's fidelity that what was sent of it has."""
    truth: float = 1.0
    """What answers of the point really keep."""
    unaudited: float | None = None
    """True fidelity of an answer that the whole model may differ from."""

    @property
    def point(self) -> OperatingPoint:
        return self.decision.point

    @property
    def sent(self) -> OperatingPoint:
        return self.coarser or self.point

    @property
    def budget_ms(self) -> float:
        return (self.deadline_ns - self.decided_ns) / 1e6

    def believed(self, outcome: Outcome) -> float:
        """Fidelity that the edge expects of an inferred answer; see `edge.frame`."""
        return 1.0 if self._here(outcome) else self.sent.fidelity

    def true_fidelity(self, outcome: Outcome) -> float:
        """Of an inferred answer: what those of the point keep, less what was left out of it."""
        return 1.0 if self._here(outcome) else self.truth * self.kept

    def _here(self, outcome: Outcome) -> bool:
        """The model itself ran on the edge in the end."""
        here = outcome is Outcome.LOCAL and self.point.place is not Place.LOCAL
        return here or (outcome is Outcome.RESUMED and not self.point.variant)
