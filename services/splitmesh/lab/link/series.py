"""Owns the link's per-second account: what it could carry, what it carried, what waits. Guesses nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from splitmesh.lab.link.lane import Lane

_KEPT_ROWS: Final = 7200


class Seconds:
    """One row per second of trace time, the latest 7200 kept.

    Row: {"t_s" end of the second, "delay_ms", "outage", "connections", "up": {...}, "down": {...}} with, per
    direction, "asked_bytes" (what the trace lets land in that second), "delivered_bytes" (written to the far socket),
    "taken_bytes" (read from the near one), "queue_bytes" (waiting at the row's end), "busy" (share of the second in
    which something waited).
    """

    def __init__(
        self, up: Lane, down: Lane, connections: Callable[[], int], tell: Callable[[dict[str, Any]], None] | None
    ) -> None:
        self.rows: deque[dict[str, Any]] = deque(maxlen=_KEPT_ROWS)
        self._lanes = {"up": up, "down": down}
        self._connections = connections
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None
        self._began_ns = self._from_ns = 0
        self._seen: dict[str, tuple[int, int, int]] = {}

    def begin(self, at_ns: int) -> None:
        """Second 0 is at `at_ns`."""
        self._began_ns = self._from_ns = max(at_ns, time.monotonic_ns())
        self._seen = {name: _counters(lane, self._from_ns) for name, lane in self._lanes.items()}
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        """At the next whole second that is not over yet."""
        whole = (max(time.monotonic_ns(), self._from_ns) - self._began_ns) // 10**9 + 1
        self._timer = asyncio.get_running_loop().call_at(self._began_ns / 1e9 + whole, self._row)

    def _row(self) -> None:
        now_ns = time.monotonic_ns()
        shaper = self._lanes["up"].shaper
        start_s, end_s = shaper.trace_s(self._from_ns), shaper.trace_s(now_ns)
        row: dict[str, Any] = {
            "t_s": round(end_s, 4),
            "delay_ms": round(shaper.trace.delay_ms(end_s), 3),
            "outage": shaper.trace.outage_at(end_s) is not None,
            "connections": self._connections(),
        }
        for name, lane in self._lanes.items():
            before, after = self._seen[name], _counters(lane, now_ns)
            taken, delivered, busy_ns = (b - a for a, b in zip(before, after, strict=True))
            row[name] = {
                "asked_bytes": round(lane.shaper.trace.landing_bytes(start_s, end_s)),
                "delivered_bytes": delivered,
                "taken_bytes": taken,
                "queue_bytes": lane.shaper.queued_bytes(now_ns),
                "busy": round(min(1.0, max(0.0, busy_ns / (now_ns - self._from_ns))), 4),
            }
            self._seen[name] = after
        self._from_ns = now_ns
        self.rows.append(row)
        self._arm()
        if self._tell is not None:
            self._tell(row)


def _counters(lane: Lane, now_ns: int) -> tuple[int, int, int]:
    return lane.taken_bytes, lane.delivered_bytes, lane.shaper.busy_ns(now_ns)
