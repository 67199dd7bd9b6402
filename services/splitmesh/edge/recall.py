"""Owns what the edge remembers of the frames that were settled last. Bounded; forgets the oldest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from splitmesh.frames.record import FrameRecord
from splitmesh.frames.tensors import Tensors

REMEMBERED_FRAMES = 2000


@dataclass(frozen=True, slots=True)
class Settled:
    """A record whose answer has kept its boxes alone, and what the chosen point was expected to be worth."""

    record: FrameRecord
    utility: float


class Recall:
    def __init__(self, frames: int = REMEMBERED_FRAMES) -> None:
        self._frames = frames
        self._held: dict[str, Settled] = {}

    def add(self, record: FrameRecord, utility: float) -> Settled:
        if record.answer.tensors:
            record = replace(record, answer=replace(record.answer, tensors=Tensors()))
        if len(self._held) >= self._frames:
            del self._held[next(iter(self._held))]
        entry = self._held[record.frame_id] = Settled(record, utility)
        return entry

    def get(self, frame_id: str) -> Settled | None:
        return self._held.get(frame_id)

    def last(self, count: int) -> list[Settled]:
        """At most `count`, oldest first."""
        return list(self._held.values())[-count:] if count > 0 else []
