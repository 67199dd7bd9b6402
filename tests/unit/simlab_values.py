"""Lines that a lab's edge might have left, for what is made of them."""

from __future__ import annotations

from typing import Any

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord

FPS = 25.0


def record(seq: int, outcome: Outcome, point: str, latency_ms: float | None, **more: Any) -> FrameRecord:
    period_ns = round(1e9 / FPS)
    values = {
        "frame_id": f"edge.run.{seq}", "seq": seq, "source_index": seq, "pts_ns": seq * period_ns,
        "captured_ns": seq * period_ns, "outcome": outcome, "point": point, "reason": "", "deadline_ms": 150.0,
        "latency_ms": latency_ms, "deadline_hit": False, **more,
    }  # fmt: skip
    return FrameRecord(**values)
