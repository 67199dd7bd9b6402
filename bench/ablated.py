"""Owns the parts of the adaptive policy that `bench.ablations` takes out, one at a time, and what stands in for each.

Production code has no switches for this: a part goes for as long as a context lasts, by another attribute in its
place. To take out what is no longer there raises AttributeError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np

from splitmesh.policy import adaptive, sending, world, worth
from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.breaker import Breaker
from splitmesh.policy.decision import Forecast
from splitmesh.policy.estimators import LatenessEstimator
from splitmesh.policy.fallback import Fallback, FallbackChoice
from splitmesh.policy.hold import Hold
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.numeric.values import Chances, Payload
from splitmesh.policy.payloads import Payloads
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.probe import ProbeSchedule
from splitmesh.policy.sending import Sending
from splitmesh.policy.track_fidelity import TrackFidelity
from splitmesh.policy.world import World
from splitmesh.policy.worth import Worth
from splitmesh.sim import pipeline
from splitmesh.sim.engine import Process
from splitmesh.sim.frame import Frame
from splitmesh.sim.pipeline import Pipeline
from splitmesh.sim.request import Request
from splitmesh.sim.scenario import Scenario

_EWMA_WEIGHT = 0.15
_LEAST_MS_PER_KB, _MOST_MS_PER_KB = 1e-3, 800.0
_LIFE_FRAMES = 30.0
"""Of a key, where nothing is counted."""


class Swap(NamedTuple):
    owner: object
    attribute: str
    value: object


class Part(NamedTuple):
    """`instead`: what stands in for it, in words; `swaps`: by what that comes about."""

    instead: str
    swaps: tuple[Swap, ...]


@contextmanager
def without(name: str, scenario: Scenario) -> Iterator[None]:
    """The policy has no part of that name (of PARTS; "": it is whole) in runs of `scenario` that are made in here."""
    with ExitStack() as stack:
        if name == EDGE_KNOWN:
            stack.enter_context(patch.object(World, "on_device", _edge_of(scenario.edge_slowdown)))
        for swap in PARTS[name].swaps if name else ():
            stack.enter_context(patch.object(swap.owner, swap.attribute, swap.value))
        yield


def _returns(owner: type, method: str, value: object) -> tuple[Swap, ...]:
    return (Swap(owner, method, lambda *_, **__: value),)


# -- link ---------------------------------------------------------------------------------------------------------


class _Mean(NamedTuple):
    ms: float
    kb: float


_means: WeakKeyDictionary[LinkEstimator, _Mean] = WeakKeyDictionary()


def _learn_by_ewma(self: LinkEstimator, y_ms: float, kb: float) -> None:
    """Base delay: the least that was seen. Rate: EWMA of bytes ÷ EWMA of the time that they took beyond it. There is
    no doubt, no jump and no dead time then."""
    if self.samples == 0:
        self._base_ms, self._p_ss, _means[self] = y_ms, 0.0, _Mean(self._ms_per_kb * kb, kb)
    self.samples += 1
    self._base_ms = min(self._base_ms, y_ms)
    ms, old_kb = _means[self]
    new = _Mean(ms + _EWMA_WEIGHT * (y_ms - self._base_ms - ms), old_kb + _EWMA_WEIGHT * (kb - old_kb))
    _means[self] = new
    self._ms_per_kb = min(max(new.ms / new.kb, _LEAST_MS_PER_KB), _MOST_MS_PER_KB)


_backlog = LinkEstimator.backlog


def _no_queue(self: LinkEstimator, now_ns: int) -> tuple[float, float]:
    """What is overdue counts all the same."""
    stalled_ms = _backlog(self, now_ns)[1]
    return stalled_ms, stalled_ms


def _never_stalled(self: LinkEstimator, now_ns: int) -> tuple[float, float]:
    """What is under way counts for as long as it was expected to take, and no longer."""
    backlog_ms, stalled_ms = _backlog(self, now_ns)
    return max(0.0, backlog_ms - 2 * stalled_ms), 0.0


# -- device and payloads ------------------------------------------------------------------------------------------


def _edge_of(scale: float) -> Callable[[World, float, float, int], None]:
    """It is `scale` from its first run on. How far runs spread is learnt all the same."""

    def on_device(self: World, measured_ms: float, profiled_ms: float, now_ns: int) -> None:
        if 0 < profiled_ms < math.inf and measured_ms < math.inf:
            self._edge_late.observe(measured_ms / (scale * profiled_ms) - 1)
        self.gamma_edge.value = scale
        self.gamma_edge.samples += 1

    return on_device


_on_sent = Payloads.on_sent


def _sent_as_calibrated(self: Payloads, *given: Any, **named: Any) -> None:
    _on_sent(self, *given, **named)
    self._scales.clear()


# -- what a point is worth ----------------------------------------------------------------------------------------


def _step(self: LatenessEstimator, budget_ms: float, now_ns: int) -> Chances:
    """Surely in time up to the budget, surely late beyond it."""
    nobody = np.zeros(0)
    return Chances(budget_ms, 1.0, 1.0, 1.0, 1.0, 1e300, math.nextafter(1.0, math.inf), 1.0, nobody, nobody)


def _momentary(self: Sending, points: list[OperatingPoint]) -> list[Payload]:
    return self._single(points)


def _key_alone(self: Sending, key: object, frames: float, first: float, lasts: float) -> float:
    return first


def _whole(key_bytes: float, room_bytes: float) -> float:
    return 1.0


_choose = Hold.choose


def _best_each_time(self: Hold, ranked: Sequence[Forecast], *, awaited: bool) -> tuple[Forecast | None, bool]:
    stands_in = awaited and all(f.point.name != self.incumbent for f in ranked)
    if not ranked or stands_in:
        return _choose(self, ranked, awaited=awaited)
    return self._take(ranked[0]), False


# -- resume from the cut ------------------------------------------------------------------------------------------


def _waits(point: OperatingPoint, world: World, *, refused: bool, **_: Any) -> FallbackChoice:
    return FallbackChoice(Fallback.RESUME if refused else Fallback.WAIT, "nothing resumes")


def _resumes(point: OperatingPoint, world: World, **_: Any) -> FallbackChoice:
    return FallbackChoice(Fallback.RESUME, "the timer")


def _tracked(self: Pipeline, frame: Frame, request: Request | None) -> Process:
    self._settle_tracked(frame)
    yield from ()


_new_world = World.__init__


def _knows_no_tail(self: World, points: Sequence[OperatingPoint], **named: Any) -> None:
    """Nothing must be left for it, so that it always fits."""
    _new_world(self, [replace(point, resume_ms=0.0) for point in points], **named)


# The policy knows of it.
_NO_RESUME = (
    Swap(pipeline, "choose_fallback", _waits),
    Swap(Pipeline, "_resume", _tracked),
    Swap(sending, "_RESUMED_FIDELITY", 0.0),
)
_NO_TAIL = (*_NO_RESUME, Swap(World, "__init__", _knows_no_tail))


EDGE_KNOWN: Final = "device: γ's error"
"""The one part that is taken out by what only the scenario knows."""
PARTS: Final[dict[str, Part]] = {
    "link: Kalman filter": Part("EWMA of bytes ÷ time", (Swap(LinkEstimator, "_learn", _learn_by_ewma),)),
    "link: CUSUM": Part("no jump is seen", _returns(LinkEstimator, "_jumped", False)),
    "link: dead time": Part("an outage is a rate", _returns(LinkEstimator, "_is_dead_time", False)),
    "link: doubt": Part("the rate is certain", _returns(LinkEstimator, "doubt_ms", 0.0)),
    "link: unacknowledged bytes": Part("nothing queues", (Swap(LinkEstimator, "backlog", _no_queue),)),
    "link: overdue acks": Part("none is", (Swap(LinkEstimator, "backlog", _never_stalled),)),
    "link: stall rule": Part("sent all the same", (Swap(adaptive, "_STALL_MS", math.inf),)),
    "device: γ": Part("1", (Swap(World, "on_device", _edge_of(1.0)),)),
    EDGE_KNOWN: Part("its true median", ()),
    "device: q95 of the tail": Part(
        "γ", (Swap(World, "_gamma_resume", property(lambda self: self.gamma_edge.value)),)
    ),
    "codecs: scales": Part("1", _returns(World, "on_encoded", None)),
    "worker: γ": Part("1", (Swap(World, "gamma_cloud", property(lambda _: 1.0)),)),
    "worker: wait": Part("0", (Swap(world, "_WAIT_WEIGHT", 0.0),)),
    "payloads: sizes": Part("as calibrated", (Swap(Payloads, "on_sent", _sent_as_calibrated),)),
    "payloads: a key's life": Part(f"{_LIFE_FRAMES:g} frames", _returns(Payloads, "key_life_frames", _LIFE_FRAMES)),
    "lateness": Part("a step at the prediction", (Swap(LatenessEstimator, "chances", _step),)),
    "fidelity: audits": Part("as planned", _returns(AuditSchedule, "due", False)),
    "tracker: audits": Part("κ of the plan", _returns(TrackFidelity, "audit", None)),
    "resume from the cut": Part("tracked", _NO_RESUME),
    "resume: only cuts whose tail fits": Part("tracked, any cut", _NO_TAIL),
    "resume: weighed": Part("always at the timer", (Swap(pipeline, "choose_fallback", _resumes),)),
    "price: frames behind": Part("0", _returns(Worth, "_behind_after", None)),
    "price: queue of the device": Part("0", (Swap(worth, "_DEVICE_PRICE", 0.0),)),
    "price: queue of the link": Part("0", (Swap(worth, "_LINK_PRICE", 0.0),)),
    "price: own length": Part("0", (Swap(worth, "OWN_PRICE", 0.0), Swap(sending, "OWN_PRICE", 0.0))),
    "freshness": Part("0", (Swap(worth, "FRESHNESS", 0.0), Swap(sending, "FRESHNESS", 0.0))),
    "streams: the long run": Part("as at this moment", (Swap(Sending, "_lasting", _momentary),)),
    "streams: in use against the long run": Part("as it is now", _returns(Sending, "_better_than_lasting", 0.0)),
    "streams: mean over a life": Part("the key's own frame", (Swap(Sending, "_mean_over_life", _key_alone),)),
    "streams: keys in parts": Part("whole", (Swap(sending, "part_of_key", _whole),)),
    "streams: one key at a time": Part("any number", _returns(Adaptive, "_awaited", False)),
    "hysteresis": Part("the best each time", (Swap(Hold, "choose", _best_each_time),)),
    "probes": Part("none", _returns(ProbeSchedule, "due", False)),
    "breaker": Part("never opens", _returns(Breaker, "_open", None)),
}
