"""Owns the link's queue and clockwork for one direction: what was taken in, and when each piece of it comes out.

Pure: times come in as numbers. The link is one FIFO of bounded size that is served at the trace's rate, then a
delay line that keeps the order. Capacity that nobody asks for is lost, as on a real link. Because service depends on
nothing but the trace and the order, a piece's exit is known the moment it is taken in; whoever changes the trace
must `clear` what is queued and take it again.

The queue never drops: it is filled from TCP sockets, and a relay can't drop a byte of a TCP stream and keep the
stream. A full queue stops reading, which the sender sees as its own socket filling up: bufferbloat without loss.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import replace
from typing import Final, NamedTuple

from splitmesh.provision.link.trace import LinkTrace

NEVER_NS: Final = (1 << 63) - 1
SEGMENT_BYTES: Final = 1448
MAX_CELL_BYTES: Final = 16 * 1024
_CELL_S: Final = 1e-3


class Cell(NamedTuple):
    """`size_bytes` that leave the queue at `finish_ns` and come out at `exit_ns` (NEVER_NS: never)."""

    size_bytes: int
    finish_ns: int
    exit_ns: int


class Shaper:
    """One direction of the link. `queue_bytes` bounds what waits for the rate, not what is in the delay line."""

    def __init__(self, trace: LinkTrace, *, queue_bytes: int, seed: int = 0) -> None:
        self.trace = trace
        self.queue_bytes = queue_bytes
        self.began_ns: int | None = None
        self._random = random.Random(seed)
        self._idle_bps = replace(trace, outages=()).mean_bps(0.0, 1.0)
        self._free_ns = 0
        self._last_exit_ns = 0
        self._served_ns = 0
        self._queued = 0
        self._waiting: deque[tuple[int, int]] = deque()  # (finish, size), ascending

    def begin(self, at_ns: int) -> None:
        """Second 0 of the trace is at `at_ns`; until begun, the mean rate of its first second holds, without outages.

        What is queued was timed without the trace: `clear` it and take it again.
        """
        self.began_ns = at_ns

    def trace_s(self, now_ns: int) -> float:
        """Trace time, 0 until begun."""
        return 0.0 if self.began_ns is None else (now_ns - self.began_ns) / 1e9

    def take(self, size_bytes: int, *, now_ns: int) -> list[Cell]:
        """Queue `size_bytes` and say in which pieces, each about 1 ms of the rate, they come out."""
        cells: list[Cell] = []
        left = size_bytes
        while left > 0:
            start_ns = max(now_ns, self._free_ns)
            if start_ns >= NEVER_NS:
                size, finish_ns = left, NEVER_NS
            else:
                rate = self._rate_bps(start_ns)
                size = min(left, MAX_CELL_BYTES, max(SEGMENT_BYTES, int(rate / 8 * _CELL_S)))
                finish_ns = self._finish_ns(start_ns, size)
                self._served_ns += finish_ns - start_ns if finish_ns < NEVER_NS else 0
            self._free_ns = finish_ns
            self._waiting.append((finish_ns, size))
            self._queued += size
            cells.append(Cell(size, finish_ns, self._exit_ns(finish_ns)))
            left -= size
        return cells

    def follow(self, *, now_ns: int) -> Cell:
        """Something without size (the end of a stream) that is sent now, behind all that was taken."""
        finish_ns = max(now_ns, self._free_ns)
        return Cell(0, finish_ns, self._exit_ns(finish_ns))

    def queued_bytes(self, now_ns: int) -> int:
        """Bytes that the link has taken and not yet sent."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._queued -= self._waiting.popleft()[1]
        return self._queued

    def room_bytes(self, now_ns: int) -> int:
        return max(0, self.queue_bytes - self.queued_bytes(now_ns))

    def room_at_ns(self, room_bytes: int, *, now_ns: int) -> int:
        """When there will be `room_bytes` (at most `queue_bytes`) if nothing else is taken; NEVER_NS for never."""
        excess = self.queued_bytes(now_ns) + min(room_bytes, self.queue_bytes) - self.queue_bytes
        for finish_ns, size in self._waiting:
            if excess <= 0:
                break
            excess -= size
            now_ns = finish_ns
        return now_ns

    def busy_ns(self, now_ns: int) -> int:
        """Total time until `now_ns` in which something waited to be sent, outages included."""
        ahead = self._free_ns - now_ns if now_ns < self._free_ns < NEVER_NS else 0
        return self._served_ns - ahead

    def clear(self, now_ns: int, *, last_exit_ns: int = 0) -> None:
        """Forget what is queued; `last_exit_ns`: when the last of what is still in the delay line comes out."""
        if now_ns < self._free_ns < NEVER_NS:
            self._served_ns -= self._free_ns - now_ns
        self._waiting.clear()
        self._queued = 0
        self._free_ns = now_ns
        self._last_exit_ns = max(now_ns, last_exit_ns)

    def _rate_bps(self, now_ns: int) -> float:
        return self._idle_bps if self.began_ns is None else self.trace.rate_bps(self.trace_s(now_ns))

    def _finish_ns(self, start_ns: int, size: int) -> int:
        if self.began_ns is None:
            rate = self._idle_bps
            return start_ns + round(size * 8e9 / rate) if rate else NEVER_NS
        finish_s = self.trace.finish_s(self.trace_s(start_ns), size)
        return NEVER_NS if finish_s == math.inf else max(start_ns, self.began_ns + round(finish_s * 1e9))

    def _exit_ns(self, finish_ns: int) -> int:
        if finish_ns >= NEVER_NS:
            exit_ns = NEVER_NS
        else:
            step = self.trace.step_at(self.trace_s(finish_ns))
            jitter_ms = min(abs(self._random.gauss(0, step.jitter_ms)), 3 * step.jitter_ms) if step.jitter_ms else 0.0
            exit_ns = self._through_outage_ns(finish_ns + round((step.delay_ms + jitter_ms) * 1e6))
        self._last_exit_ns = max(exit_ns, self._last_exit_ns)
        return self._last_exit_ns

    def _through_outage_ns(self, exit_ns: int) -> int:
        """What would land during an outage lands right after it."""
        outage = self.trace.outage_at(self.trace_s(exit_ns)) if self.began_ns is not None else None
        if outage is None:
            return exit_ns
        if outage.end_s == math.inf or self.began_ns is None:
            return NEVER_NS
        return self.began_ns + round(outage.end_s * 1e9)
