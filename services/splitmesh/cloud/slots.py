"""Owns a worker's slots: runs what dispatch says on threads of their own, replies, and starts the next.

One task per run; decode, run and post-processing are one hop to an executor thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from splitmesh.cloud.dispatch import Dispatch
from splitmesh.cloud.hosted import Abandoned, Executed
from splitmesh.cloud.job import Job, execute
from splitmesh.cloud.tenancy import Tenancy
from splitmesh.errors import MeshError
from splitmesh.wire.messages import Nack, NackCode, WorkerTimes
from splitmesh.wire.nacks import nack_for

_log = logging.getLogger(__name__)


class Slots:
    """`count` runs at the same time. tenancies: by name, filled before the first job comes."""

    def __init__(self, count: int, dispatch: Dispatch, tenancies: Mapping[str, Tenancy]) -> None:
        self.executor = ThreadPoolExecutor(count, thread_name_prefix="infer")
        self._dispatch = dispatch
        self._tenancies = tenancies
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def occupied(self) -> None:
        """A job was taken: `idle` waits for it."""
        self._idle.clear()

    def settle(self) -> None:
        """A job has gone by another door: whoever waits for the last may go on."""
        if self._dispatch.idle:
            self._idle.set()

    async def idle(self) -> None:
        """Return once nothing waits and nothing runs."""
        await self._idle.wait()

    async def refuse(self, job: Job, nack: Nack) -> None:
        await self._tenancies[job.tenant].desk.refuse(job, nack)

    async def close(self) -> None:
        """Wait for what runs."""
        self._look_again(0)
        while self._tasks:
            await asyncio.wait(self._tasks)  # a model's run can't be interrupted, and is short
        self.executor.shutdown(wait=False)

    async def pump(self) -> None:
        """Start what a slot is free for, and tell those that can't make it any more."""
        while True:
            turn = self._dispatch.next(time.monotonic_ns())
            if turn.jobs:
                for job in turn.jobs:
                    self._tenancies[job.tenant].running[job.frame_id] = job
                execution = asyncio.get_running_loop().run_in_executor(self.executor, execute, turn.jobs)
                self._do(self._serve(turn.jobs, execution))  # begun at once: a thread waits for it
            else:
                self._look_again(turn.look_again_ns)  # before any await: another pump may know better by then
            for late in turn.expired:
                await self.refuse(late, Nack(NackCode.EXPIRED, "the budget ran out in the queue"))
            if not turn.jobs:
                self.settle()
                return

    def _look_again(self, at_ns: int) -> None:
        """A slot is left free for one more to come, until then; 0: none is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_ns:
            left_s = (at_ns - time.monotonic_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(left_s, lambda: self._do(self.pump()))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, jobs: Sequence[Job], execution: asyncio.Future[list[Executed | Exception]]) -> None:
        """Reply first, then start the next, then count: nobody waits for what is told about a request."""
        answered: list[tuple[Job, Executed, WorkerTimes]] = []
        try:
            ends = await execution
            self._release(jobs, ends)
            for job, end in zip(jobs, ends, strict=True):
                times = await self._reply(job, end)
                if isinstance(end, Executed) and times is not None:
                    answered.append((job, end, times))
        finally:
            await self.pump()
            for job, run, times in answered:
                self._tenancies[job.tenant].desk.account(job, run, times)

    async def _reply(self, job: Job, end: Executed | Exception) -> WorkerTimes | None:
        """What an answer tells of its times; None for a refusal."""
        desk = self._tenancies[job.tenant].desk
        try:
            if isinstance(end, Exception):
                raise end
            return await desk.answer(job, end)
        except Abandoned as exc:
            await desk.refuse(job, Nack(NackCode.CANCELLED, exc.message))
        except Exception as exc:  # noqa: BLE001 - told to the sender and logged; the next request must be served
            _log.log(
                logging.WARNING if isinstance(exc, MeshError) else logging.ERROR,
                "frame %s of %s failed: %s",
                job.frame_id,
                job.tenant,
                exc,
                exc_info=None if isinstance(exc, MeshError) else exc,
            )
            await desk.refuse(job, nack_for(exc))
        return None

    def _release(self, jobs: Sequence[Job], ends: Sequence[Executed | Exception]) -> None:
        """The slot of these jobs is free again; each is charged its part of what they took."""
        now_ns = time.monotonic_ns()
        runs = [end for end in ends if isinstance(end, Executed)]
        taken_ns = max(run.end_ns for run in runs) - runs[0].start_ns if runs else None
        part_ns = None if taken_ns is None else taken_ns // len(jobs)
        if taken_ns is not None and len(runs) == len(jobs):
            self._dispatch.ran(jobs, taken_ns, now_ns)
        for job in jobs:
            tenancy = self._tenancies[job.tenant]
            del tenancy.running[job.frame_id]
            tenancy.compute_ns += part_ns or 0
            self._dispatch.ended(job, now_ns, part_ns)
