"""Owns the edge's streams: which worker holds what each of them builds on, and when one must begin anew.

A stream begins with a key to the pool. The worker that answers it is its home: later frames go there, each built on
what that worker has acknowledged. After `CALM_FRAMES` acknowledgements without a loss each builds on the one before
it at once: where replies take two frames, that is a third fewer bytes, and what is sent arrives in order. A loss
then ends the stream, like home gone, silent or lacking the reference: it begins anew. What happens is noted on the
event loop; the encoder itself is touched by the codec thread alone, which hears of it before each frame.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from splitmesh.edge.coding import StreamEncoder
from splitmesh.errors import MeshError
from splitmesh.policy.payloads import Reference

MAX_UNACKNOWLEDGED = 12
"""Frames under way: fewer than the references that a worker keeps."""
MAX_IDLE_NS = 10_000_000_000
"""What was acknowledged longer ago is too old to build on, and the worker may have let go of it."""
CALM_FRAMES = 8
"""Acknowledged in a row before what is under way is built on."""
MAX_REFUSALS = 3
"""So many in a row, and home has no room for us: another worker may have."""


class NotSent(MeshError):
    """This frame can't go by its stream; the next may."""


class End(Enum):
    """How a frame's request ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """For reasons of that frame alone, or lost on the way."""
    BROKEN = "broken"
    """The stream can't go on where it was."""


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """A coded frame of a stream, ready to go."""

    payload: bytes
    key: bool
    number: int
    """As the encoder knows it."""
    ticket: int
    """As the stream knows it: encoders may count from the start again."""
    life: int
    """Which of the stream's lives it belongs to: each begins with a key."""
    level: int
    """As asked, or coarser where that was too large."""
    trusted: bool = False
    """What is coded after it builds on it, before it is acknowledged."""


class EdgeStream:
    """One codec at one cut. `chained`: each frame builds on the one before, whatever was acknowledged.

    `code` runs on the codec thread; all else on the event loop.
    """

    def __init__(
        self, make: Callable[[], StreamEncoder], *, chained: bool, tell: Callable[[Reference], None]
    ) -> None:
        self.id = _new_id()
        self.home = ""
        """The worker that holds the reference; "": none does."""
        self._make = make
        self._chained = chained
        self._tell = tell
        self._life = 0
        self._under_way: set[int] = set()
        self._acknowledged_ns = 0
        self._refusals = 0
        self._news: deque[tuple[int, str, int]] = deque()
        """(life, what, number), from the event loop to the codec thread."""
        self._encoder: StreamEncoder | None = None
        self._coding_life = 0
        self._referenced = False
        self._calm = 0
        """Acknowledgements since the last loss."""
        self._key_under_way: int | None = None
        self._tickets = 0

    # -- the codec thread -----------------------------------------------------------------------------------------

    def code(self, content: Any, level: int, limit_bytes: float = math.inf) -> StreamFrame:
        """limit_bytes: as for `StreamEncoder`. Raises NotSent while the stream's key is under way, CodecError."""
        self._hear()
        if self._encoder is None:
            self._encoder = self._make()
        if self._key_under_way is not None and not self._referenced:
            raise NotSent("the key of this stream is under way")
        coded = self._encoder.encode(content, level=level, limit_bytes=limit_bytes)
        if coded.key and not self._referenced:
            self._key_under_way = coded.number
        trusted = self._referenced and self._calm >= CALM_FRAMES and not self._chained
        if trusted:
            self._encoder.acknowledged(coded.number)
        self._tickets += 1
        return StreamFrame(
            coded.payload, coded.key, coded.number, self._tickets, self._coding_life, coded.level, trusted
        )

    def _hear(self) -> None:
        while self._news:
            life, what, number = self._news.popleft()
            if what == "reset":
                self._coding_life, self._referenced, self._key_under_way, self._calm = life, False, None, 0
                if self._encoder is not None:
                    self._encoder.reset()
            elif life == self._coding_life and self._encoder is not None:
                if what == "confirmed":
                    self._calm += 1
                elif what == "acknowledged":
                    self._referenced = True
                    self._calm += 1
                    self._encoder.acknowledged(number)
                else:
                    if number == self._key_under_way:
                        self._key_under_way = None
                    self._calm = 0
                    if what == "lost":
                        self._encoder.lost(number)

    # -- the event loop -------------------------------------------------------------------------------------------

    def stale(self, now_ns: int) -> bool:
        """What it could build on is too old."""
        return bool(self.home) and now_ns - self._acknowledged_ns > MAX_IDLE_NS

    def check_room(self) -> None:
        """Raises NotSent if too many of its frames are under way."""
        if len(self._under_way) >= MAX_UNACKNOWLEDGED:
            raise NotSent(f"{len(self._under_way)} frames of this stream are unacknowledged")

    def send(self, frame: StreamFrame) -> str:
        """`frame` goes now; the worker it must go to, "" for any of the pool. Raises NotSent if it can't any more."""
        if frame.life != self._life:
            raise NotSent("the stream began anew while this frame was coded")
        self._under_way.add(frame.ticket)
        if not self.home:
            self._tell(Reference.COMING)
        return self.home

    def overdue(self, frame: StreamFrame) -> None:
        """The key takes so long that another may be sent. It still counts if it is answered."""
        if frame.life != self._life or frame.ticket not in self._under_way or self.home:
            return
        if self._chained:
            self.reset()
        else:
            self._post("overdue", frame.number)
            self._tell(Reference.NONE)

    def ended(self, frame: StreamFrame, end: End, worker: str, now_ns: int) -> None:
        """The request of `frame` ended; `worker` replied, "" if none did."""
        if frame.life != self._life:
            return
        self._under_way.discard(frame.ticket)
        if end is End.ANSWERED and (not self.home or self.home == worker):
            self.home = worker
            self._acknowledged_ns = now_ns
            self._refusals = 0
            self._post("confirmed" if frame.trusted else "acknowledged", frame.number)
            self._tell(Reference.ALIVE)
            return
        self._refusals += end is End.REFUSED and bool(worker)
        if end is End.BROKEN or self._chained or frame.trusted or self._refusals >= MAX_REFUSALS:
            self.reset()
            return
        self._post("lost", frame.number)
        if not self.home:
            self._tell(Reference.COMING if self._under_way else Reference.NONE)

    def reset(self) -> None:
        """Begin anew: the next frame is a key to the pool."""
        self.id = _new_id()
        self.home = ""
        self._life += 1
        self._under_way.clear()
        self._refusals = 0
        self._post("reset", 0)
        self._tell(Reference.NONE)

    def _post(self, what: str, number: int) -> None:
        self._news.append((self._life, what, number))

    def __repr__(self) -> str:
        return f"<EdgeStream {self.id:08x} home={self.home or None} under_way={len(self._under_way)}>"


def _new_id() -> int:
    return secrets.randbelow(2**32 - 1) + 1
