"""Owns virtual time: events in order, and processes that wait for a moment or for one another. Knows no mesh.

Two events of one moment happen in the order in which they were set, so that a run repeats to the byte.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Signal(Generic[T]):
    """A value that comes at most once."""

    __slots__ = ("_heard", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: T | None = None
        self._heard: list[Callable[[], None]] = []

    def fire(self, value: T) -> None:
        """Later values are ignored: the first result wins."""
        if self.done:
            return
        self.done, self.value = True, value
        heard, self._heard = self._heard, []
        for act in heard:
            act()

    def hear(self, act: Callable[[], None]) -> None:
        """Call `act` when the value comes; at once if it is there."""
        if self.done:
            act()
        else:
            self._heard.append(act)


def any_done(signals: Iterable[Signal[Any]]) -> bool:
    """Whether one of `signals` has its value. (A loop: `any` over a generator takes four times as long.)"""
    for signal in signals:  # noqa: SIM110
        if signal.done:
            return True
    return False


class Wait(NamedTuple):
    """What a process yields: go on at `until_ns`, or as soon as one of `signals` is done."""

    until_ns: int
    signals: tuple[Signal[Any], ...] = ()


Process = Generator[Wait, None, None]


class Engine:
    """The clock. `now_ns` begins at 0 and moves to each event's time in turn."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.events = 0
        """That have happened."""
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._count = 0

    def at(self, time_ns: int, act: Callable[[], None]) -> None:
        """Call `act` at `time_ns`; what lies in the past happens now."""
        self._count += 1
        now_ns = self.now_ns
        heapq.heappush(self._later, (time_ns if time_ns > now_ns else now_ns, self._count, act))

    def start(self, process: Process) -> None:
        """Run `process` until it first waits."""
        _Running(self, process).step()

    def run(self, until_ns: int) -> None:
        """Let everything happen up to `until_ns`, which is the time then."""
        soon, later = self._soon, self._later
        while soon or (later and later[0][0] <= until_ns):
            if soon:
                act = soon.popleft()
            else:
                self.now_ns, _, act = heapq.heappop(later)
            self.events += 1
            act()
        self.now_ns = max(self.now_ns, until_ns)

    def soon(self, act: Callable[[], None]) -> None:
        """Call `act` now, behind what happens already."""
        self._soon.append(act)


class _Running:
    """A process and the wait that it is in."""

    __slots__ = ("_engine", "_process", "_waits")

    def __init__(self, engine: Engine, process: Process) -> None:
        self._engine = engine
        self._process = process
        self._waits = 0
        """Counts waits, so that what ends an earlier one is ignored."""

    def step(self) -> None:
        engine = self._engine
        self._waits += 1
        for wait in self._process:
            until_ns, signals = wait
            if until_ns <= engine.now_ns or any_done(signals):
                continue
            engine.at(until_ns, partial(self._wake, self._waits))
            for signal in signals:
                signal.hear(partial(self._heard, self._waits))
            return

    def _wake(self, wait: int) -> None:
        if wait == self._waits:
            self.step()

    def _heard(self, wait: int) -> None:
        if wait == self._waits:
            self._engine.soon(partial(self._wake, wait))
