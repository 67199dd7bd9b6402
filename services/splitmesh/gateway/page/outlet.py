"""Owns what one browser is still to be sent. Bounded: of each kind the newest, of frames the last ones."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

MAX_FRAMES = 600
"""Twenty seconds of a camera."""
_FRAMES = "frames"


class Outlet:
    """A browser that reads slowly loses what is old; nobody waits for it, and nothing piles up.

    Used within one event loop; `next` by one task only.
    """

    def __init__(self) -> None:
        self._newest: dict[str, str | bytes] = {}
        """In the order in which kinds came; of frames it holds their turn alone."""
        self._frames: deque[dict[str, Any]] = deque(maxlen=MAX_FRAMES)
        self._edge = ""
        self._left_out = 0
        self._there = asyncio.Event()
        self.replaced = 0
        """Messages and frames that a newer one took the place of before they were sent."""

    def put(self, kind: str, message: dict[str, Any] | bytes) -> None:
        """Text as JSON, or bytes as they are. Takes the place of an unsent one of the same `kind`."""
        self.replaced += kind in self._newest
        self._newest[kind] = message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":"))
        self._there.set()

    def put_frames(self, edge: str, frames: list[dict[str, Any]], *, left_out: int) -> None:
        """`left_out` frames of `edge` were settled and did not come with these."""
        if edge != self._edge:
            self._frames.clear()
            self._edge, self._left_out = edge, 0
        over = max(0, len(self._frames) + len(frames) - MAX_FRAMES)
        self._frames.extend(frames)
        self._left_out += left_out + over
        self.replaced += over
        self._newest.setdefault(_FRAMES, "")
        self._there.set()

    def forget_edge(self) -> None:
        """Nothing more of the edge that was watched is to be sent."""
        for kind in (_FRAMES, "preview", "watch"):
            self._newest.pop(kind, None)
        self._frames.clear()
        self._left_out = 0

    async def next(self) -> str | bytes:
        """The next message, as soon as there is one; kinds in the order in which they came."""
        while not self._newest:
            self._there.clear()
            await self._there.wait()
        kind = next(iter(self._newest))
        message = self._newest.pop(kind)
        return self._all_frames() if kind == _FRAMES else message

    def _all_frames(self) -> str:
        message = {"type": "frames", "edge": self._edge, "rows": list(self._frames), "left_out": self._left_out}
        self._frames.clear()
        self._left_out = 0
        return json.dumps(message, separators=(",", ":"))
