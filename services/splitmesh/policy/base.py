"""Owns the strategy seam: every policy, adaptive or baseline, is asked the same question in the same words."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from splitmesh.policy.decision import Decision, Forecast, Observation
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import World


class Policy(Protocol):
    @property
    def name(self) -> str: ...

    def decide(self, *, world: World, seen: Observation) -> Decision:
        """Choose an operating point for one frame."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A policy that learns from what its own decisions led to, beyond what `World` knows."""

    def settled(self, decision: Decision, *, latency_ms: float, answered: bool, now_ns: int) -> None:
        """The frame of `decision` is settled; told once for each. latency_ms: since the decision. answered: by a
        model; else the tracker or nothing stood in for it, and it would have taken longer than that."""
        ...


def forecast(
    point: OperatingPoint, world: World, seen: Observation, utility: float = 0.0, *, key: bool | None = None
) -> Forecast:
    """What `point` gives for this frame; `key` as in `World.message_bytes`."""
    predicted_ms = world.predicted_ms(point, seen, key=key)
    return Forecast(point, predicted_ms, world.p_hit(point, predicted_ms, seen, key=key), utility)
