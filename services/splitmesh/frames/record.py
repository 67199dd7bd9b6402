"""Owns the one line that every captured frame leaves behind (`results.jsonl`), and its JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.tensors import Tensors

MAX_TENSOR_BYTES = 1_000_000
"""Of an answer's tensors in one line, packed, before base64: what fits a worker's reply fits a line."""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """Everything one can ask of a frame afterwards. Times are milliseconds unless the name says otherwise."""

    frame_id: str
    """`<edge>.<run>.<seq>`."""
    seq: int
    """Counts captured frames of this run from 0."""
    source_index: int
    """Index of the picture within the source before looping: names the picture, so that it can be re-read."""
    pts_ns: int
    """Continuous presentation time since the run's first frame."""
    captured_ns: int
    """Capture time since the run's start, edge monotonic clock."""
    outcome: Outcome
    point: str
    """Name of the operating point that was decided ("" for frames shed before a decision)."""
    reason: str
    """Why that point was chosen."""
    deadline_ms: float
    latency_ms: float | None
    """Capture to result; None if the frame has no answer."""
    deadline_hit: bool
    """An answer of any kind came within the deadline. Shed and expired frames are misses."""
    predicted_ms: float | None = None
    p_hit: float | None = None
    runners_up: list[dict[str, Any]] = field(default_factory=list)
    """`[{"point": name, "predicted_ms": t, "p_hit": p, "utility": u}, …]`, best first."""
    uplink_bytes: int = 0
    """Payload bytes handed to the bus for this frame."""
    times_ms: dict[str, float] = field(default_factory=dict)
    """Measured parts: preprocess, device_queue, head, encode, network, worker_queue, decode, tail, local, resume."""
    link: dict[str, float] = field(default_factory=dict)
    """Link estimate at decision time: `bandwidth_bps`, `base_ms`, `backlog_bytes`."""
    worker: str | None = None
    trace_id: str | None = None
    note: str = ""
    """What went differently from the decision ("timer", "nack overloaded", "ring full", …)."""
    answer: Answer = field(default_factory=Answer.empty)
    """In the line: its boxes as "answer" and, if it has any, its tensors as "tensors"."""
    left_out_bytes: int = 0
    """Packed size of the answer's tensors if they were too large for the line that this record was read from."""

    @property
    def exceptional(self) -> bool:
        """Missed, or resumed from its cut: traced however few frames are sampled."""
        return not self.deadline_hit or self.outcome is Outcome.RESUMED

    def to_json_line(self) -> str:
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        row["outcome"] = self.outcome.value
        row["answer"] = self.answer.to_json()
        parts = Tensors.of(self.answer.tensors).packed()
        size = sum(len(part.data) for part in parts.values())
        if size > MAX_TENSOR_BYTES:
            row["left_out_bytes"] = size
        elif parts:
            row["tensors"] = {name: part.to_json() for name, part in parts.items()}
        row["times_ms"] = {k: round(v, 3) for k, v in self.times_ms.items()}
        return json.dumps(row, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json_line(line: str) -> FrameRecord:
        row = json.loads(line)
        row["outcome"] = Outcome(row["outcome"])
        row["answer"] = Answer.from_json(row["answer"], Tensors.from_json(row.pop("tensors", {})))
        return FrameRecord(**row)
