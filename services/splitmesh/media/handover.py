"""Owns the hand-over of frames from the decoding thread to one consumer: the thread-safe shell around `Ring`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque

from splitmesh.errors import MeshError
from splitmesh.frames.ring import Ring
from splitmesh.media.captured import Captured

_DROPPED_BOUND = 4096
"""Dropped frames that may await settlement before the producer stops capturing: nobody is settling them."""


class Handover:
    """One producer thread, one consumer: a thread (`next`) or an asyncio task (`get`), not both at a time.

    A full ring drops its oldest frame (`put(..., wait=False)`) or makes the producer wait (`wait=True`).
    Dropped frames come out of `take_dropped` in order of `seq`, each before any younger frame that `get` returned.
    """

    def __init__(self, capacity: int, *, dropped_bound: int = _DROPPED_BOUND) -> None:
        self._ring: Ring[Captured] = Ring(capacity)
        self._dropped: deque[Captured] = deque()
        self._dropped_bound = dropped_bound
        self._taken_seq = -1
        self._delivered = 0
        self._ended = False
        self._closed = False
        self._error: MeshError | None = None
        self._changed = threading.Condition()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def put(self, item: Captured, *, wait: bool) -> bool:
        """Producer: hand one frame over. False if the hand-over was closed; the frame then counts as dropped."""
        with self._changed:
            while not self._closed and ((wait and self._ring.full) or len(self._dropped) >= self._dropped_bound):
                self._changed.wait()
            if self._closed:
                self._ring.pushed += 1
                self._ring.dropped += 1
                self._dropped.append(item.without_picture())
                return False
            displaced = self._ring.push(item)
            if displaced is not None:
                self._dropped.append(displaced.without_picture())
            self._wake()
            return True

    def end(self, error: MeshError | None = None) -> None:
        """Producer: no more frames. `error` is raised to the consumer after the frames that wait."""
        with self._changed:
            self._ended = True
            self._error = error
            self._wake()

    def close(self) -> None:
        """Either side, at any time: release both. Frames that still wait become dropped ones."""
        with self._changed:
            self._closed = True
            while (item := self._ring.pop()) is not None:
                self._ring.dropped += 1
                self._dropped.append(item.without_picture())
            self._wake()

    async def get(self) -> Captured | None:
        """The next frame; None at the end or once closed. Raises the producer's error. Safe to cancel."""
        while True:
            with self._changed:
                ready, item = self._poll()
                if ready:
                    return item
                if self._waiter is not None:
                    raise RuntimeError("a source has one consumer; another task already waits for its next frame")
                loop = asyncio.get_running_loop()
                woken: asyncio.Future[None] = loop.create_future()
                self._waiter = (loop, woken)
            try:
                await woken
            finally:
                with self._changed:
                    if self._waiter is not None and self._waiter[1] is woken:
                        self._waiter = None

    def next(self, timeout_s: float | None = None) -> Captured | None:
        """As `get`, for a thread. Raises TimeoutError if nothing came within `timeout_s` seconds."""
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while True:
                ready, item = self._poll()
                if ready:
                    return item
                left = None if limit is None else limit - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no frame within {timeout_s} s")
                self._changed.wait(left)

    def take_dropped(self) -> list[Captured]:
        """Dropped frames not yet taken, older than the last frame handed out; all, at the end or once closed."""
        with self._changed:
            everything = self._closed or (self._ended and not len(self._ring))
            taken: list[Captured] = []
            while self._dropped and (everything or self._dropped[0].seq < self._taken_seq):
                taken.append(self._dropped.popleft())
            if taken:
                self._changed.notify_all()
            return taken

    def counts(self) -> tuple[int, int, int, int]:
        """(captured, delivered, dropped, waiting), of one moment."""
        with self._changed:
            return self._ring.pushed, self._delivered, self._ring.dropped, len(self._ring)

    def _poll(self) -> tuple[bool, Captured | None]:
        item = self._ring.pop()
        if item is not None:
            self._taken_seq = item.seq
            self._delivered += 1
            self._changed.notify_all()
            return True, item
        if self._error is not None and not self._closed:
            raise self._error
        return self._ended or self._closed, None

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._waiter is None:
            return
        (loop, woken), self._waiter = self._waiter, None
        with contextlib.suppress(RuntimeError):  # the consumer's loop is closed: nobody is left to wake
            loop.call_soon_threadsafe(_settle, woken)


def _settle(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
