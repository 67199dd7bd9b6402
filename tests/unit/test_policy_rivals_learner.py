"""The edge tells a policy that learns how each of its decisions ended, once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.settlement import Settlement
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.media.captured import Captured
from splitmesh.media.prepare import Preparer
from splitmesh.policy.base import Learner
from splitmesh.policy.decision import Decision, Forecast
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing

LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=14)
SIZE = 32


@dataclass
class Pupil:
    """Remembers what it was told."""

    told: list[tuple[Decision, float, bool, int]] = field(default_factory=list)

    def settled(self, decision: Decision, *, latency_ms: float, answered: bool, now_ns: int) -> None:
        self.told.append((decision, latency_ms, answered, now_ns))


@pytest.mark.parametrize(
    ("outcome", "answered"),
    [
        (Outcome.LOCAL, True),
        (Outcome.SPLIT, True),
        (Outcome.RESUMED, True),
        (Outcome.TRACKED, False),
        (Outcome.EXPIRED, False),
    ],
)
def test_a_learner_hears_once_how_its_decision_ended(outcome: Outcome, answered: bool) -> None:
    pupil = Pupil()
    assert isinstance(pupil, Learner)
    settlement = Settlement(run_ns=0, metrics=Metrics(CollectorRegistry()).edge, results=None, learner=pupil)
    tracing = Tracing("edge", instance="e", sample_ratio=1.0)
    decided_ns = time.monotonic_ns() - 30_000_000
    captured = Captured(1, 1, 0, decided_ns - 2_000_000, None, False, False, SIZE, SIZE)
    frame = OpenFrame(
        frame_id="e.run.1",
        captured=captured,
        prepared=Preparer(SIZE, SIZE).prepare(np.full((SIZE, SIZE, 3), 90, np.uint8)),
        decision=Decision(Forecast(LOCAL, 30.0, 0.9, 0.0), "test"),
        decided_ns=decided_ns,
        deadline_ns=decided_ns + 150_000_000,
        trace=tracing.start_frame("e.run.1", decided_ns),
        motion=0.0,
        link={},
    )
    settlement.capture(captured)
    assert settlement.settle(frame, outcome, Answer.empty())
    assert not settlement.settle(frame, Outcome.TRACKED, Answer.empty())
    after_ns = time.monotonic_ns()
    tracing.close()
    ((decision, latency_ms, was_answered, now_ns),) = pupil.told
    assert decision is frame.decision and was_answered is answered
    assert latency_ms == (now_ns - decided_ns) / 1e6
    assert decided_ns + 30_000_000 <= now_ns <= after_ns
