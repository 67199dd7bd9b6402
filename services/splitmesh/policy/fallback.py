"""Owns the second decision of a SPLIT frame: the timer fired (or the worker refused) and there is no answer yet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

_STALL_MS = 30.0
_MARGIN_MS = 3.0
_TAIL_COST = 0.03
"""Of the device time that a tail takes from the frames behind: one that hardly has a chance is not worth it."""
_NEEDLESS_COST = 0.1
"""On top, if the reply comes after all."""


class Fallback(StrEnum):
    RESUME = "resume"
    """Run the tail here, from the cut."""
    WAIT = "wait"
    """The reply is more likely to make it than it is worth paying the edge for."""


@dataclass(frozen=True, slots=True)
class FallbackChoice:
    kind: Fallback
    reason: str


def choose_fallback(
    point: OperatingPoint,
    world: World,
    *,
    now_ns: int,
    elapsed_ms: float,
    budget_ms: float,
    predicted_ms: float,
    device_backlog_ms: float,
    a_track: float,
    refused: bool,
) -> FallbackChoice:
    """Compare the expected agreement of waiting with that of resuming from the cut.

    `elapsed_ms` and `budget_ms` count from the decision; `device_backlog_ms` is what an urgent job waits for.
    `P(reply in time | none yet)` comes from the same lateness distribution that the decision used.
    """
    if refused:
        return FallbackChoice(Fallback.RESUME, "refused")
    remaining_ms = budget_ms - elapsed_ms - _MARGIN_MS
    p_reply = reply_probability(point, world, now_ns, elapsed_ms, budget_ms, predicted_ms)
    resume_ms = device_backlog_ms + world.edge_ms(point.resume_ms)
    p_resume = world.lateness[Place.LOCAL].p_within(resume_ms, remaining_ms, now_ns)
    wait = p_reply * point.fidelity + (1 - p_reply) * a_track
    resume = p_resume + (1 - p_resume) * wait
    cost = _TAIL_COST + _NEEDLESS_COST * p_reply
    detail = f"P(reply) {p_reply:.2f}, P(resume) {p_resume:.2f}"
    if resume - cost > wait:
        return FallbackChoice(Fallback.RESUME, f"timer: {detail}")
    return FallbackChoice(Fallback.WAIT, f"waits: {detail}")


def reply_probability(
    point: OperatingPoint, world: World, now_ns: int, elapsed_ms: float, budget_ms: float, predicted_ms: float
) -> float:
    """P(T ≤ budget | T > elapsed); 0 while the link is stalled or the breaker is open."""
    if world.link.view(now_ns).stalled_ms > _STALL_MS or not world.breaker.closed:
        return 0.0
    late = world.lateness[point.place]
    by_now = late.p_within(predicted_ms, elapsed_ms, now_ns)
    by_deadline = late.p_within(predicted_ms, budget_ms - _MARGIN_MS, now_ns)
    if by_now >= 0.995:
        return 0.0
    return max(0.0, (by_deadline - by_now) / (1 - by_now))
