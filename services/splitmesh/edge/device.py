"""Owns the edge's accelerator: one thread, one job at a time, urgent ones first, with an honest slowdown.

With slowdown K every model run of t ms is followed by a wait of (K − 1)·t ms that uses no CPU and holds the device:
that is how a slower device is emulated. t is the run's own CPU time where one thread runs it (else wall time), so
that a run which was preempted by its neighbours is not stretched K times as if it had been working. Pre-processing,
codecs and post-processing run at full speed.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from splitmesh.inference.session import Session

T = TypeVar("T")
Tensors = Mapping[str, npt.NDArray[Any]]

_log = logging.getLogger(__name__)


class DeviceJob(Generic[T]):
    """A job on its way through the device. Await `done`; `started_ns` and `ended_ns` are set by then."""

    def __init__(
        self,
        work: Callable[[DeviceJob[T]], T],
        *,
        expected_ms: float,
        slowdown: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._work = work
        self._slowdown = slowdown
        self._loop = loop
        self.expected_ms = expected_ms
        self.done: asyncio.Future[T] = loop.create_future()
        self.cancelled = threading.Event()
        self.queued_ns = time.monotonic_ns()
        self.started_ns = 0
        self.ended_ns = 0
        self.busy_ms = 0.0
        """Time the device was held by model runs, the emulated part included."""

    @property
    def left_device(self) -> bool:
        """True once its work is over, or was skipped: what it reads may be reused."""
        return self.ended_ns > 0

    def cancel(self) -> None:
        """Nobody needs it: skip it if it still waits, cut the emulated part short if it runs. From the loop only."""
        self.cancelled.set()
        self.done.cancel()

    def drop(self) -> None:
        """As `cancel`, from any thread."""
        self.cancelled.set()
        self._loop.call_soon_threadsafe(self.done.cancel)

    def run_model(self, session: Session, inputs: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run `session`, then hold the device for what the emulated slower device would still need."""
        start_ns, start_cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        outputs = session.run(dict(inputs))
        if self._slowdown > 1:
            wall_ns, cpu_ns = time.monotonic_ns() - start_ns, time.thread_time_ns() - start_cpu_ns
            worked_ns = min(wall_ns, cpu_ns) if session.threads == 1 else wall_ns
            self.cancelled.wait((self._slowdown - 1) * worked_ns / 1e9)
        self.busy_ms += (time.monotonic_ns() - start_ns) / 1e6
        return outputs

    def _run(self) -> None:
        self.started_ns = time.monotonic_ns()
        value: T | None = None
        error: BaseException | None = None
        try:
            value = self._work(self)
        except Exception as exc:  # noqa: BLE001 - handed to whoever awaits the job
            error = exc
        self.ended_ns = time.monotonic_ns()
        self._loop.call_soon_threadsafe(self._publish, value, error)

    def _publish(self, value: T | None, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(value)  # type: ignore[arg-type]


class Device:
    """Call from the event loop's thread, but for `close`. `slowdown` ≥ 1."""

    def __init__(self, *, slowdown: float = 1.0) -> None:
        self.slowdown = slowdown
        self._waiting: list[tuple[int, int, DeviceJob[Any]]] = []
        self._running: DeviceJob[Any] | None = None
        self._changed = threading.Condition()
        self._count = 0
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="edge-device", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[DeviceJob[T]], T], *, expected_ms: float, urgent: bool = False) -> DeviceJob[T]:
        """Queue `work`, which gets its own job (for `run_model`). Urgent jobs overtake the others."""
        loop = asyncio.get_running_loop()
        job = DeviceJob(work, expected_ms=expected_ms, slowdown=self.slowdown, loop=loop)
        with self._changed:
            self._count += 1
            heapq.heappush(self._waiting, (0 if urgent else 1, self._count, job))
            self._changed.notify()
        return job

    def backlog_ms(self, now_ns: int, *, urgent: bool = False) -> float:
        """What a job submitted now would wait, from the expected times of the jobs before it."""
        with self._changed:
            waiting = [job for rank, _, job in self._waiting if rank == 0 or not urgent]
            running = self._running
        total = sum(job.expected_ms for job in waiting if not job.cancelled.is_set())
        if running is not None and not running.cancelled.is_set():
            total += max(0.5, running.expected_ms - (now_ns - running.started_ns) / 1e6)
        return total

    def close(self) -> None:
        """Drop what waits, finish what runs, end the thread. Blocks; may be called from any thread."""
        with self._changed:
            self._closed = True
            for _, _, job in self._waiting:
                job.drop()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout=10)
        if self._thread.is_alive():
            _log.error("the device thread is stuck in a model run")

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed and not self._waiting:
                    return
                _, _, job = heapq.heappop(self._waiting)
                if job.cancelled.is_set():
                    job.ended_ns = time.monotonic_ns()
                    continue
                job.started_ns = time.monotonic_ns()
                self._running = job
            job._run()
            with self._changed:
                self._running = None
