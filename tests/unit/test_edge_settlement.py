"""A frame is settled by the deadline that it was captured with, and whoever looks on can't cost it anything."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.settlement import Settlement
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.media.captured import Captured
from splitmesh.media.prepare import Preparer
from splitmesh.policy.decision import Decision, Forecast
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.telemetry.metrics import Metrics
from splitmesh.telemetry.tracing import Tracing

MS = 1_000_000
SIZE = 32
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=20.0)


@pytest.fixture
def settlement() -> Settlement:
    return Settlement(run_ns=0, metrics=Metrics(CollectorRegistry()).edge, results=None)


def frame(settlement: Settlement, seq: int, *, deadline_ms: int, captured_ms_ago: int) -> OpenFrame:
    captured_ns = time.monotonic_ns() - captured_ms_ago * MS
    captured = Captured(seq, seq, 0, captured_ns, None, False, False, SIZE, SIZE)
    settlement.capture(captured)
    tracing = Tracing("edge", instance="e", sample_ratio=1.0)
    made = OpenFrame(
        frame_id=f"e.run.{seq}",
        captured=captured,
        prepared=Preparer(SIZE, SIZE).prepare(np.full((SIZE, SIZE, 3), 90, np.uint8)),
        decision=Decision(Forecast(LOCAL, 30.0, 0.9, 0.25), "test"),
        decided_ns=captured_ns + MS,
        deadline_ns=captured_ns + deadline_ms * MS,
        trace=tracing.start_frame(f"e.run.{seq}", captured_ns),
        motion=0.0,
        link={},
    )
    tracing.close()
    return made


def test_frames_under_way_keep_the_deadline_that_they_were_captured_with(settlement: Settlement) -> None:
    told: list[FrameRecord] = []
    settlement.witness = lambda record, _: told.append(record)
    old = frame(settlement, 1, deadline_ms=60_000, captured_ms_ago=1000)
    new = frame(settlement, 2, deadline_ms=500, captured_ms_ago=1000)
    for each in (new, old):
        assert settlement.settle(each, Outcome.LOCAL, Answer.empty())
    assert [(record.seq, record.deadline_ms, record.deadline_hit) for record in told] == [
        (2, 500.0, False),
        (1, 60_000.0, True),
    ]


def test_a_witness_is_told_each_frame_once_and_of_those_that_were_shed(settlement: Settlement) -> None:
    told: list[tuple[str, Any]] = []
    settlement.witness = lambda record, open_frame: told.append((record.frame_id, open_frame))
    settled = frame(settlement, 1, deadline_ms=150, captured_ms_ago=10)
    settlement.settle(settled, Outcome.LOCAL, Answer.empty())
    settlement.settle(settled, Outcome.TRACKED, Answer.empty())
    dropped = Captured(2, 2, 0, 0, None, False, False, SIZE, SIZE)
    settlement.capture(dropped)
    settlement.shed(dropped, "e.run.2", "the ring was full", deadline_ms=150.0)
    assert told == [("e.run.1", settled), ("e.run.2", None)]
    assert settlement.ledger.conserved
