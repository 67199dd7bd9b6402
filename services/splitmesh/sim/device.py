"""Owns the edge's accelerator on virtual time: one job at a time, urgent ones first, as `edge.device` has it.

A job that nobody needs any more is skipped if it waits. If it runs, only the part that emulates a slower device is
cut short: the model's own run can't be. A spare job begins only where nothing else is to be done, and is given up as
soon as there is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial

from splitmesh.sim.engine import Engine, Signal

Over = Callable[[float, bool], None]


class Job:
    """`needs_ms`: what it will take; `done` gives the time it held the device, ms."""

    __slots__ = ("_device", "cancelled", "done", "expected_ms", "needs_ms", "started_ns")

    def __init__(self, device: Device, expected_ms: float, needs_ms: float) -> None:
        self._device = device
        self.expected_ms = expected_ms
        self.needs_ms = needs_ms
        self.started_ns = -1
        self.cancelled = False
        self.done: Signal[float] = Signal()

    def cancel(self) -> None:
        self.cancelled = True
        self._device.cut_short(self)


class Device:
    def __init__(self, engine: Engine, *, slowdown: float) -> None:
        self._engine = engine
        self._slowdown = slowdown
        self._waiting: list[tuple[int, int, Job]] = []
        self._running: Job | None = None
        self._spare: tuple[Job, Over] | None = None
        self._count = 0
        self.used_ms = 0.0
        """For which it has run anything."""

    def submit(self, *, expected_ms: float, needs_ms: float, urgent: bool = False) -> Job:
        self._give_way()
        job = Job(self, expected_ms, needs_ms)
        self._count += 1
        heapq.heappush(self._waiting, (0 if urgent else 1, self._count, job))
        self._next()
        return job

    def spare(self, *, expected_ms: float, needs_ms: float, over: Over) -> None:
        """A job of no frame, for an idle device: the next one ends it. `over` is told how long it ran, and whether it
        came to its end."""
        job = self.submit(expected_ms=expected_ms, needs_ms=needs_ms)
        self._spare = job, over

    def _give_way(self) -> None:
        if self._spare is not None:
            (job, over), self._spare = self._spare, None
            job.cancel()
            over((self._engine.now_ns - job.started_ns) / 1e6, False)

    def backlog_ms(self, now_ns: int, *, urgent: bool = False) -> float:
        """What a job submitted now would wait, from the expected times of the jobs before it."""
        if self._spare is not None:
            spare = self._spare[0]
            return max(0.0, spare.expected_ms / max(self._slowdown, 1.0) - (now_ns - spare.started_ns) / 1e6)
        total = 0.0
        for rank, _, job in self._waiting:
            if not job.cancelled and (rank == 0 or not urgent):
                total += job.expected_ms
        running = self._running
        if running is not None and not running.cancelled:
            total += max(0.5, running.expected_ms - (now_ns - running.started_ns) / 1e6)
        return total

    def cut_short(self, job: Job) -> None:
        if job is self._running:
            least_ns = job.started_ns + round(job.needs_ms / max(self._slowdown, 1.0) * 1e6)
            self._engine.at(least_ns, partial(self._end, job))

    def _next(self) -> None:
        while self._running is None and self._waiting:
            job = heapq.heappop(self._waiting)[2]
            if job.cancelled:
                continue
            job.started_ns = self._engine.now_ns
            self._running = job
            self._engine.at(job.started_ns + round(job.needs_ms * 1e6), partial(self._end, job))

    def _end(self, job: Job) -> None:
        if job is not self._running:
            return
        self._running = None
        self.used_ms += (self._engine.now_ns - job.started_ns) / 1e6
        if self._spare is not None and job is self._spare[0]:
            over, self._spare = self._spare[1], None
            over(job.needs_ms, True)
        if not job.cancelled:
            job.done.fire(job.needs_ms)
        self._next()
