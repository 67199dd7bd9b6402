"""Owns sending on time: takes arrivals from a schedule when their moment has come and there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Protocol

from meshload.alarm import Alarm
from meshload.arrivals import Arrival
from meshload.target import Status

_BURST = 64
"""Sends in a row before the loop may read answers again."""
_EARLY_NS = 60_000
"""To wake up takes about so long on an idle core: woken so much earlier, the pacer waits for the moment in a loop."""
_EARLY_GAP_NS = 500_000
"""It does so only where the next request is further away than that: at low rates, a tenth of a core at most."""


class Sender(Protocol):
    """What the pacer asks of the engine. Times in ns."""

    start_ns: int
    """Of `time.monotonic_ns`; arrivals count from here."""

    @property
    def in_flight(self) -> int: ...

    def send(self, arrival: Arrival, now_ns: int, *, held: bool) -> None: ...


class Pacer:
    """Sends each of `arrivals` on time, or as soon as less than `room` requests are on their way. Skips none."""

    def __init__(self, sender: Sender, room: int, arrivals: Iterator[Arrival]) -> None:
        self._sender, self._room, self._arrivals = sender, room, arrivals
        self.failure: Exception | None = None
        """Why the schedule ended before its end."""
        self._next = self._take()
        self._alarm = Alarm(self.pump)
        self._early = self._full = self._planned = False
        self._loop = asyncio.get_running_loop()

    @property
    def exhausted(self) -> bool:
        return self._next is None

    def on_room(self, _: Status) -> None:
        """A request is no longer on its way."""
        if self._full:
            self.pump()

    def pump(self) -> None:
        """Send all that is due. What finds no room stays until there is some, and is marked as held back."""
        self._planned = False
        sender, left, arrival = self._sender, _BURST, self._next
        while arrival is not None:
            now_ns = time.monotonic_ns() - sender.start_ns
            if arrival.at_ns > now_ns:
                self._full = False
                if not self._early or arrival.at_ns > now_ns + _EARLY_NS:
                    self._wait(arrival.at_ns, now_ns)
                    break
                while now_ns < arrival.at_ns:
                    now_ns = time.monotonic_ns() - sender.start_ns
            self._early = False
            if sender.in_flight >= self._room:
                self._full = True
                break
            if not left:
                self._plan()
                break
            sender.send(arrival, now_ns, held=self._full)
            left -= 1
            self._next = arrival = self._take()

    def finish(self, end_ns: int) -> list[Arrival]:
        """Send what was due before `end_ns` as far as there is room; the rest."""
        left = []
        while self._next is not None and self._next.at_ns < end_ns:
            if self._sender.in_flight < self._room:
                self._sender.send(self._next, time.monotonic_ns() - self._sender.start_ns, held=self._full)
            else:
                left.append(self._next)
            self._next = self._take()
        return left

    def close(self) -> None:
        self._alarm.close()

    def _take(self) -> Arrival | None:
        """The next one. A schedule that is read as the run goes on may break, and nobody could catch that here."""
        try:
            return next(self._arrivals, None)
        except Exception as exc:  # noqa: BLE001 (whatever it is ends the run, which raises it)
            self.failure = exc
            return None

    def _wait(self, at_ns: int, now_ns: int) -> None:
        self._early = at_ns - now_ns > _EARLY_GAP_NS
        self._alarm.set(self._sender.start_ns + at_ns - (_EARLY_NS if self._early else 0))

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self.pump)
