"""Owns which streams a simulated worker holds open, and which of their frames. Mirrors `cloud.streams`.

A frame that was decoded may be built on. Limits are the worker's own: an edge keeps its latest few streams, and where
too many are in use a newcomer is refused.
"""

from __future__ import annotations

from collections import OrderedDict

from splitmesh.sim.request import StreamPart

MAX_PER_EDGE = 8
MAX_STREAMS = 256
IN_USE_NS = 5_000_000_000
MAX_AGE_NS = 60_000_000_000
_KEPT_FRAMES = 32


class _Open:
    __slots__ = ("frames", "used_ns")

    def __init__(self) -> None:
        self.used_ns = 0
        self.frames: dict[int, None] = {}
        """Numbers of the latest that were decoded, oldest first."""


class OpenStreams:
    """Of one worker; a stream is known by its sender's number and its own."""

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[int, int], _Open] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def find(self, sender: int, part: StreamPart, now_ns: int) -> bool:
        """Whether the stream is open; it is in use then."""
        found = self._streams.get((sender, part.stream))
        if found is None:
            return False
        self._use((sender, part.stream), found, now_ns)
        return True

    def open(self, sender: int, part: StreamPart, now_ns: int) -> bool:
        """Open the stream if need be; False if there is no room for it."""
        found = self._streams.get((sender, part.stream))
        if found is None:
            if not self._make_room(sender, now_ns):
                return False
            found = _Open()
        self._use((sender, part.stream), found, now_ns)
        return True

    def decodes(self, sender: int, part: StreamPart) -> bool:
        """Whether what the payload builds on is here; this frame is here then too."""
        found = self._streams.get((sender, part.stream)) or _Open()
        if part.base is not None and part.base not in found.frames:
            return False
        found.frames[part.number] = None
        if len(found.frames) > _KEPT_FRAMES:
            del found.frames[next(iter(found.frames))]
        return True

    def trim(self, now_ns: int) -> None:
        """Forget what was not used for too long."""
        while self._streams:
            key, oldest = next(iter(self._streams.items()))
            if now_ns - oldest.used_ns <= MAX_AGE_NS:
                return
            del self._streams[key]

    def _use(self, key: tuple[int, int], found: _Open, now_ns: int) -> None:
        found.used_ns = now_ns
        self._streams[key] = found
        self._streams.move_to_end(key)

    def _make_room(self, sender: int, now_ns: int) -> bool:
        theirs = [key for key in self._streams if key[0] == sender]
        if len(theirs) >= MAX_PER_EDGE:
            del self._streams[theirs[0]]
        elif len(self._streams) >= MAX_STREAMS:
            idle = (k for k, each in self._streams.items() if not each.frames or now_ns - each.used_ns > IN_USE_NS)
            oldest = next(idle, None)
            if oldest is None:
                return False
            del self._streams[oldest]
        return True
