"""Owns one direction of the running link: asks the shaper when bytes come out, and puts them out then.

Knows sockets only as an `Inlet` that can be told to wait and an `Outlet` that can be written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final, NamedTuple, Protocol

from splitmesh.lab.link.shaper import NEVER_NS, SEGMENT_BYTES, Cell, Shaper
from splitmesh.provision.link.trace import LinkTrace

_EARLY_NS: Final = 200_000
"""What is due this soon goes out now: a timer of the event loop is no finer."""
_LARGEST_READ: Final = 64 * 1024


class Inlet(Protocol):
    """Where a lane's bytes come from."""

    def hold(self, held: bool) -> None:
        """Stop reading, or read on."""


class Outlet(Protocol):
    """Where a lane's bytes go."""

    def put(self, data: memoryview) -> None: ...

    def end(self) -> None:
        """No more bytes will come."""


class _Piece(NamedTuple):
    """On its way to `outlet`; data None: the end of its stream."""

    cell: Cell
    outlet: Outlet
    data: memoryview | None


class Lane:
    """Shaper, what is on its way, and one timer. Used on one event loop only."""

    def __init__(self, shaper: Shaper) -> None:
        self.shaper = shaper
        self.taken_bytes = 0
        self.delivered_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._inlets: deque[Inlet] = deque()
        self._transit: deque[_Piece] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self.full = False

    @property
    def in_transit_bytes(self) -> int:
        """Taken and not yet delivered, whether queued or in the delay line."""
        return self.taken_bytes - self.delivered_bytes

    def attach(self, inlet: Inlet) -> None:
        self._inlets.append(inlet)
        inlet.hold(self.full)

    def detach(self, inlet: Inlet) -> None:
        if inlet in self._inlets:
            self._inlets.remove(inlet)

    def read_limit(self) -> int:
        """Bytes that an inlet may read now: its share of the room, one segment at least."""
        room = self.shaper.room_bytes(time.monotonic_ns())
        return min(_LARGEST_READ, max(SEGMENT_BYTES, room // max(1, len(self._inlets))))

    def take(self, data: bytes, outlet: Outlet) -> None:
        """Send `data` on its way to `outlet`; hold all inlets if the queue is full then."""
        now_ns = time.monotonic_ns()
        self.taken_bytes += len(data)
        self._send(memoryview(data), outlet, now_ns)
        self._arm()
        if not self.full and self.shaper.room_bytes(now_ns) == 0:
            self._set_full(True)
            self._resume_at(now_ns)

    def begin(self, at_ns: int) -> None:
        """Second 0 of the trace is at `at_ns`; what is queued is timed anew."""
        self.shaper.begin(at_ns)
        self._time_anew()

    def follow(self, trace: LinkTrace) -> None:
        """From now on the link is as `trace`; what is queued is timed anew."""
        self.shaper.trace = trace
        self._time_anew()

    def end(self, outlet: Outlet) -> None:
        """Tell `outlet` that its stream ended, once all that was taken before is through."""
        self._transit.append(_Piece(self.shaper.follow(now_ns=time.monotonic_ns()), outlet, None))
        self._arm()

    def clear(self) -> None:
        """Lose everything that is on its way."""
        self._transit.clear()
        self.shaper.clear(time.monotonic_ns())
        self.taken_bytes = self.delivered_bytes
        self._disarm()
        self._set_full(False)

    def close(self) -> None:
        self._disarm()
        self._transit.clear()
        self._inlets.clear()

    def _time_anew(self) -> None:
        now_ns = time.monotonic_ns()
        waiting = [piece for piece in self._transit if piece.cell.finish_ns > now_ns]
        self._transit = deque(piece for piece in self._transit if piece.cell.finish_ns <= now_ns)
        self._disarm()
        self.shaper.clear(now_ns, last_exit_ns=self._transit[-1].cell.exit_ns if self._transit else 0)
        for _, outlet, data in waiting:
            if data is None:
                self._transit.append(_Piece(self.shaper.follow(now_ns=now_ns), outlet, None))
            else:
                self._send(data, outlet, now_ns)
        self._arm()
        if self.full:
            self._resume_at(now_ns)

    def _send(self, data: memoryview, outlet: Outlet, now_ns: int) -> None:
        at = 0
        for cell in self.shaper.take(len(data), now_ns=now_ns):
            self._transit.append(_Piece(cell, outlet, data[at : at + cell.size_bytes]))
            at += cell.size_bytes

    def _arm(self) -> None:
        if self._timer is None and self._transit and self._transit[0].cell.exit_ns < NEVER_NS:
            self._timer = self._loop.call_at(self._transit[0].cell.exit_ns / 1e9, self._deliver)

    def _disarm(self) -> None:
        for timer in (self._timer, self._resume):
            if timer is not None:
                timer.cancel()
        self._timer = self._resume = None

    def _deliver(self) -> None:
        self._timer = None
        due_ns = time.monotonic_ns() + _EARLY_NS
        while self._transit and self._transit[0].cell.exit_ns <= due_ns:
            _, outlet, data = self._transit.popleft()
            if data is None:
                outlet.end()
            else:
                self.delivered_bytes += len(data)
                outlet.put(data)
        self._arm()

    def _set_full(self, full: bool) -> None:
        self.full = full
        self._inlets.rotate(-1)  # nobody is always the first to find room
        for inlet in list(self._inlets):
            inlet.hold(full)

    def _resume_at(self, now_ns: int) -> None:
        room = min(self.shaper.queue_bytes // 4, 16 * SEGMENT_BYTES)
        at_ns = self.shaper.room_at_ns(max(1, room), now_ns=now_ns)
        if at_ns < NEVER_NS:
            self._resume = self._loop.call_at(at_ns / 1e9, self._make_room)

    def _make_room(self) -> None:
        self._resume = None
        self._set_full(False)
