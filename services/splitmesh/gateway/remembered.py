"""Owns the gateway's memory of its own latest frames: their record and spans. Bounded; knows no bus."""

from __future__ import annotations

from collections import OrderedDict

from splitmesh.v1 import control_pb2 as pb

KEPT_FRAMES = 2000
"""Of one tenant: at a kilobyte or two each."""


class Remembered:
    """Frames of one tenant, oldest forgotten first."""

    def __init__(self, kept: int = KEPT_FRAMES) -> None:
        self._kept = kept
        self._frames: OrderedDict[str, pb.Explained] = OrderedDict()

    def keep(self, story: pb.Explained) -> None:
        self._frames[story.frame.frame_id] = story
        while len(self._frames) > self._kept:
            self._frames.popitem(last=False)

    def get(self, frame_id: str) -> pb.Explained | None:
        """A copy, which may be added to."""
        kept = self._frames.get(frame_id)
        if kept is None:
            return None
        story = pb.Explained()
        story.CopyFrom(kept)
        return story

    def __len__(self) -> int:
        return len(self._frames)
