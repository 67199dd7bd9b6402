"""Owns what the simulated edge sees without a model: the age and the worth of what it tracks from, and audits.

A tracked answer keeps `exp(−κ·Σ (motion + floor)·Δt)` of the answer that it is carried on from, with the scenario's
κ: the form that `policy.track_fidelity` assumes, over the motion that there really was. What a model answers to a
frame does not depend on how it came about; it teaches the world as `edge.observer` does.
"""

from __future__ import annotations

import math

from splitmesh.frames.outcome import Outcome
from splitmesh.policy.track_fidelity import TELLING, carried
from splitmesh.policy.world import World
from splitmesh.sim.draws import Draws
from splitmesh.sim.frame import Foreseen, Frame

_AUDIT_INTERVAL_NS = 90_000_000


class Observer:
    def __init__(self, world: World, draws: Draws, *, period_ns: int, kappa: float) -> None:
        self._world = world
        self._draws = draws
        self._period_ns = period_ns
        self._kappa = kappa
        self._newest = -1
        """Frame that the newest answer is of; -1: there is none."""
        self._worth = 0.0
        """True fidelity of that answer."""
        self._audited_ns: int | None = None
        self.carried = 1.0
        """How good it is believed to be; see `policy.track_fidelity.carried`."""

    @property
    def can_track(self) -> bool:
        return self._newest >= 0

    def age_ms(self, seq: int) -> float | None:
        return None if self._newest < 0 else abs(seq - self._newest) * self._period_ns / 1e6

    def a_track(self, seq: int, motion: float) -> float:
        return self.carried * self._world.track.a_track(motion, self.age_ms(seq))

    def tracked(self, seq: int) -> float:
        """True fidelity of what is tracked for that frame now."""
        return self._worth * self._kept(seq)

    def foresee(self, seq: int) -> Foreseen | None:
        """None: no audit is due."""
        age_ms, now_ns = self.age_ms(seq), seq * self._period_ns
        due = self._audited_ns is None or now_ns - self._audited_ns >= _AUDIT_INTERVAL_NS
        if age_ms is None or age_ms <= 0 or not due:
            return None
        self._audited_ns = now_ns
        return Foreseen(self.tracked(seq), age_ms, self.carried)

    def observe(self, frame: Frame, outcome: Outcome) -> None:
        """A model's answer to `frame` is there."""
        believed, seen = frame.believed(outcome), frame.foreseen
        if seen is not None and min(believed, seen.carried) >= TELLING:
            agreed = seen.kept * frame.true_fidelity(outcome) / (carried(believed) * seen.carried)
            self._world.track.audit(min(agreed, 1.0), frame.motion, seen.age_ms)
        if frame.seq > self._newest:
            self._newest = frame.seq
            self._worth = frame.true_fidelity(outcome)
            self.carried = carried(believed)

    def _kept(self, seq: int) -> float:
        travelled = self._draws.travelled
        return math.exp(-self._kappa * abs(travelled[seq] - travelled[self._newest]))
