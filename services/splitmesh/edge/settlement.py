"""Owns the end of every frame: ledger, record, metrics, trace and the figures of the last seconds, in one place."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from splitmesh.edge.frame import OpenFrame
from splitmesh.edge.results import ResultLog
from splitmesh.frames.answer import Answer
from splitmesh.frames.ledger import Ledger
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.media.captured import Captured
from splitmesh.policy.base import Learner
from splitmesh.telemetry.metrics import EdgeMetrics

_WINDOW_NS = 5_000_000_000
_UNKEPT = Answer.empty()
"""In place of the answers of the last seconds, whose tensors may be large."""


class Settlement:
    """`run_ns`: the run's start on the monotonic clock; `results`: None writes no lines; `learner`: is told how each
    decided frame ended.

    `witness`: is told each record, and the frame unless it was shed before a decision. It must not raise."""

    def __init__(
        self,
        *,
        run_ns: int,
        metrics: EdgeMetrics,
        results: ResultLog | None,
        learner: Learner | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.run_ns = run_ns
        self._metrics = metrics
        self._results = results
        self._learner = learner
        self._recent: deque[tuple[int, FrameRecord]] = deque()
        self.hits = 0
        self.witness: Callable[[FrameRecord, OpenFrame | None], None] | None = None

    def capture(self, captured: Captured) -> None:
        self.ledger.capture(captured.seq)
        self._metrics.captured_total.inc()
        self._metrics.in_flight_frames.set(self.ledger.in_flight)

    def settle(self, frame: OpenFrame, outcome: Outcome, answer: Answer) -> bool:
        """Close `frame` with `answer` (in [0, 1] of the source picture). False: it was settled before."""
        if not self.ledger.is_open(frame.seq):
            return False
        now_ns = time.monotonic_ns()
        latency_ms = (now_ns - frame.captured.captured_ns) / 1e6 if outcome.answered else None
        deadline_ms = (frame.deadline_ns - frame.captured.captured_ns) / 1e6
        hit = latency_ms is not None and latency_ms <= deadline_ms
        chosen = frame.decision.chosen
        record = FrameRecord(
            frame_id=frame.frame_id,
            seq=frame.seq,
            source_index=frame.captured.source_index,
            pts_ns=frame.captured.pts_ns,
            captured_ns=frame.captured.captured_ns - self.run_ns,
            outcome=outcome,
            point=frame.point.name,
            reason=frame.decision.reason,
            deadline_ms=deadline_ms,
            latency_ms=latency_ms,
            deadline_hit=hit,
            predicted_ms=chosen.predicted_ms,
            p_hit=chosen.p_hit,
            runners_up=[f.to_json() for f in frame.decision.runners_up],
            uplink_bytes=frame.uplink_bytes,
            times_ms=frame.times_ms,
            link=frame.link,
            worker=frame.worker,
            trace_id=frame.trace.trace_id,
            note="; ".join(frame.notes),
            answer=answer,
        )
        self._close(record, now_ns, frame)
        if self._learner is not None:
            since_ms = (now_ns - frame.decided_ns) / 1e6
            self._learner.settled(frame.decision, latency_ms=since_ms, answered=outcome.inferred, now_ns=now_ns)
        frame.trace.span("emit", now_ns, time.monotonic_ns())
        frame.trace.finish(
            time.monotonic_ns(),
            keep=record.exceptional,
            attributes=self._attributes(frame, record),
        )
        return True

    def shed(self, captured: Captured, frame_id: str, note: str, *, deadline_ms: float) -> None:
        """Close a frame that never came to a decision."""
        now_ns = time.monotonic_ns()
        self._close(
            FrameRecord(
                frame_id=frame_id,
                seq=captured.seq,
                source_index=captured.source_index,
                pts_ns=captured.pts_ns,
                captured_ns=captured.captured_ns - self.run_ns,
                outcome=Outcome.SHED,
                point="",
                reason="",
                deadline_ms=deadline_ms,
                latency_ms=None,
                deadline_hit=False,
                note=note,
            ),
            now_ns,
            None,
        )

    def recent(self, now_ns: int) -> dict[str, Any]:
        """Figures of the last five seconds and of the whole run, for `GET /status`."""
        while self._recent and self._recent[0][0] < now_ns - _WINDOW_NS:
            self._recent.popleft()
        records = [record for _, record in self._recent]
        latencies = [r.latency_ms for r in records if r.latency_ms is not None]
        p50, p95, p99 = np.percentile(latencies, (50, 95, 99)).tolist() if latencies else (0.0, 0.0, 0.0)
        span_s = min(_WINDOW_NS, max(1, now_ns - self.run_ns)) / 1e9
        total = self.ledger.settled.total()
        return {
            "fps": sum(r.outcome.answered for r in records) / span_s,
            "hit_rate": self.hits / total if total else 0.0,
            "hit_rate_5s": sum(r.deadline_hit for r in records) / len(records) if records else 0.0,
            "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
            "decisions_5s": dict(Counter(r.point.split("/")[0] or "shed" for r in records)),
            "uplink_bps": 8 * sum(r.uplink_bytes for r in records) / span_s,
        }

    def _close(self, record: FrameRecord, now_ns: int, frame: OpenFrame | None) -> None:
        self.ledger.settle(record.seq, record.outcome)
        self.hits += record.deadline_hit
        self._recent.append((now_ns, replace(record, answer=_UNKEPT)))
        if len(self._recent) > 4096:
            self._recent.popleft()
        self._metrics.settled(record)
        self._metrics.in_flight_frames.set(self.ledger.in_flight)
        if self._results is not None:
            self._results.write(record)
        if self.witness is not None:
            self.witness(record, frame)

    def _attributes(self, frame: OpenFrame, record: FrameRecord) -> dict[str, Any]:
        point = frame.point
        runners = [
            f"{f.point.name} {f.predicted_ms:.1f} ms p={f.p_hit:.2f} u={f.utility:.3f}"
            for f in frame.decision.runners_up
        ]
        return {
            "splitmesh.outcome": record.outcome.value,
            "splitmesh.decision": point.name,
            "splitmesh.place": point.place.value,
            "splitmesh.cut": point.cut,
            "splitmesh.codec": point.codec,
            "splitmesh.level": point.level,
            "splitmesh.reason": record.reason,
            "splitmesh.predicted_ms": record.predicted_ms,
            "splitmesh.p_hit": record.p_hit,
            "splitmesh.utility": frame.decision.chosen.utility,
            "splitmesh.runners_up": runners,
            "splitmesh.bytes": record.uplink_bytes,
            "splitmesh.latency_ms": record.latency_ms,
            "splitmesh.deadline_hit": record.deadline_hit,
            "splitmesh.note": record.note,
        }
