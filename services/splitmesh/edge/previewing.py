"""Owns the making of previews: on a thread of their own, which gives way to whatever else wants the processor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from splitmesh.edge.frame import OpenFrame
from splitmesh.errors import WireError
from splitmesh.frames.answer import Answer
from splitmesh.frames.record import FrameRecord
from splitmesh.media.preview import preview_jpeg
from splitmesh.plan.manifest import Manifest
from splitmesh.wire.answers import answer_to_pb
from splitmesh.wire.control import Preview

_NICENESS = 10
MAX_BOXES = 300
"""Of a preview: more can't be told apart on one."""


class Previewing:
    def __init__(self, manifest: Manifest, *, edge: str) -> None:
        self._manifest = manifest
        self._edge = edge
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edge-preview", initializer=_be_nice)

    async def make(self, frame: OpenFrame, record: FrameRecord, longest_px: int) -> Preview | None:
        """Of a settled frame and the boxes of its answer. None for an answer that no message may hold.

        Raises DecodeError if the picture can't be converted.
        """
        answer = _best(record.answer)
        made = Preview(
            edge_id=self._edge,
            frame_id=record.frame_id,
            labels={int(kind): self._manifest.label(int(kind)) for kind in set(answer.classes.tolist())},
            point=record.point,
            latency_ms=record.latency_ms,
            deadline_hit=record.deadline_hit,
        )
        try:
            made.answer.CopyFrom(answer_to_pb(answer))
        except WireError:
            return None
        loop, picture = asyncio.get_running_loop(), frame.captured.picture
        if picture is None:
            return None
        made.jpeg = await loop.run_in_executor(self._thread, lambda: preview_jpeg(picture, longest_px=longest_px))
        return made

    def close(self) -> None:
        """Blocks while a picture is being made."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _best(answer: Answer) -> Answer:
    """The first boxes, which are the best."""
    few = slice(MAX_BOXES)
    return Answer(answer.boxes[few], answer.scores[few], answer.classes[few], answer.points[few])


def _be_nice() -> None:
    """Linux alone has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
