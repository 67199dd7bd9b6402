"""Owns what the edge sees without a model: motion, the tracker, and how far tracker and answers may be trusted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement
from splitmesh.frames.track import Tracker, motion
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.track_fidelity import TELLING, carried
from splitmesh.policy.world import World

_log = logging.getLogger(__name__)

_AUDIT_INTERVAL_NS = 90_000_000
"""An audit costs some 0.2 ms of a small CPU; ten a second teach as much as thirty."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the tracker would have said for a frame when it was decided."""

    answer: Answer
    age_ms: float
    """Of the answer that it was carried on from."""
    carried: float
    """How good that one was to begin with."""


class Observer:
    """`kind`: the manifest's post-processing kind, which says how agreement is measured."""

    def __init__(self, world: World, *, kind: str) -> None:
        self._world = world
        self._kind = kind
        self._tracker = Tracker()
        self._luma: npt.NDArray[np.uint8] | None = None
        self._motion = 0.0
        self._audited_ns: int | None = None
        self.carried = 1.0
        """How good the newest answer was to begin with; see `policy.track_fidelity.carried`."""

    def see(self, luma: npt.NDArray[np.uint8]) -> float:
        """Motion of this frame against the previous one, smoothed over some frames; `luma` (36, 64) uint8."""
        if self._luma is not None:
            self._motion += 0.3 * (motion(self._luma, luma) - self._motion)
        self._luma = luma.copy()
        return self._motion

    def foresee(self, pts_ns: int) -> Foreseen | None:
        """What would be tracked now for the frame at `pts_ns`, to be held against its answer; None: no audit is due.

        By the time the answer is there, newer ones than could have been tracked from may be too.
        """
        age_ms = self.age_ms(pts_ns)
        due = self._audited_ns is None or abs(pts_ns - self._audited_ns) >= _AUDIT_INTERVAL_NS
        if age_ms is None or age_ms <= 0 or not due:
            return None
        self._audited_ns = pts_ns
        return Foreseen(self._tracker.predict(pts_ns), age_ms, self.carried)

    def observe(
        self,
        answer: Answer,
        pts_ns: int,
        motion_now: float,
        *,
        fidelity: float = 1.0,
        foreseen: Foreseen | None = None,
    ) -> None:
        """A model's answer (in [0, 1] of the source picture), and what was foreseen of it: an audit of the tracker.

        fidelity: that is expected of the answer. Where it is not to be trusted, or what was tracked was tracked from
        one like that, that much less agreement is as good. Poor answers are no audit: where they differ from what was
        tracked, as likely as not it is they that are wrong.
        """
        age_ms = self.age_ms(pts_ns)
        if foreseen is not None and min(fidelity, foreseen.carried) >= TELLING:
            agreed = agreement(self._kind, foreseen.answer, answer) / (carried(fidelity) * foreseen.carried)
            self._world.track.audit(min(agreed, 1.0), motion_now, foreseen.age_ms)
        self._tracker.observe(answer, pts_ns)
        if age_ms != 0:  # else there is a newer one
            self.carried = carried(fidelity)

    def audit(self, sent: OperatingPoint, answer: Answer, reference: Answer, motion_then: float) -> None:
        """What `sent` gave, and the whole model's answer to that frame: both in [0, 1] of the model's input."""
        try:
            agreed = agreement(self._kind, answer, reference)
        except InferenceError as exc:
            _log.warning("an answer of %s can't be audited: %s", sent.name, exc)
        else:
            self._world.on_audit(sent, agreed, motion_then)

    def predict(self, pts_ns: int) -> Answer:
        return self._tracker.predict(pts_ns)

    def can_track(self, pts_ns: int) -> bool:
        return self._tracker.age_ns(pts_ns) is not None

    def age_ms(self, pts_ns: int) -> float | None:
        age_ns = self._tracker.age_ns(pts_ns)
        return None if age_ns is None else age_ns / 1e6

    def a_track(self, pts_ns: int, motion_now: float) -> float:
        """Expected agreement of what the tracker would say for the frame at `pts_ns`."""
        return self.carried * self._world.track.a_track(motion_now, self.age_ms(pts_ns))
