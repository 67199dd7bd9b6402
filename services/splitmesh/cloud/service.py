"""Owns a worker: takes requests from the bus, serves those that can make it, and answers every single one.

Refusals say why. Whatever goes wrong with one request is told to its sender and touches no other. One task per
request in service; decode, run and post-processing are one hop to an executor thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from splitmesh.bus.base import Bus, Message, MessageSink, Subscription
from splitmesh.cloud.desk import ReplyDesk
from splitmesh.cloud.hosted import Abandoned, Hosted
from splitmesh.cloud.job import Job
from splitmesh.cloud.refusals import explain
from splitmesh.errors import BusError, MeshError, ModelError, WireError
from splitmesh.frames.status import CloudStatus
from splitmesh.schedule.edf import EdfQueue, Refusal
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.telemetry.metrics import CloudMetrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import headers, subjects
from splitmesh.wire.checks import MAX_US
from splitmesh.wire.messages import Cancel, Heartbeat, InferRequest, Nack, NackCode
from splitmesh.wire.nacks import nack_for

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """slots: requests served at the same time. queue_limit: requests that may wait."""

    name: str
    tenant: str = "default"
    slots: int = 1
    queue_limit: int = 64
    heartbeat_s: float = 0.2


class Worker:
    """`warm_up`, then `start` on a bus, then `drain`. Lives on one event loop."""

    def __init__(
        self, options: WorkerOptions, hosted: Sequence[Hosted], *, tracing: Tracing, metrics: CloudMetrics
    ) -> None:
        """Raises ModelError if two of `hosted` have the same name, WireError if a name fits no subject."""
        self.options = options
        self._hosted = {each.model: each for each in hosted}
        if len(self._hosted) != len(hosted):
            raise ModelError("a worker can't serve two models of the same name")
        self._announced = tuple(each.announced() for each in hosted)
        self._tracing = tracing
        self._metrics = metrics
        self._queue: EdfQueue[Job] = EdfQueue(options.queue_limit, servers=options.slots)
        self._running: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(options.slots, thread_name_prefix="infer")
        self._taken: dict[tuple[str, str], ServiceTime] = {}
        self._bus: Bus | None = None
        self._interests: list[Subscription] = []
        self._pulse: asyncio.Task[None] | None = None
        self._beats = 0
        self.draining = False

    # life

    async def warm_up(self) -> None:
        """Run every part; until then `start` refuses. Raises InferenceError, ModelError."""
        for hosted in self._hosted.values():
            loop = asyncio.get_running_loop()
            medians = await loop.run_in_executor(self._executor, hosted.warm_up)
            for cut, median_ns in medians.items():
                self._taken[hosted.model, cut] = ServiceTime(median_ns)
            shown = " ".join(f"{cut or 'whole'} {ns / 1e6:.1f} ms" for cut, ns in medians.items())
            _log.info("%r is warm: %s", hosted, shown)

    async def start(self, bus: Bus) -> None:
        """Subscribe and send the first heartbeat: from now on requests come. Raises BusError."""
        if not self._taken:
            raise ModelError("the worker was not warmed up")
        self._bus = bus
        self._desk = ReplyDesk(self.options.name, bus, self._metrics, self._wait_us)
        tenant = self.options.tenant
        await self._listen(bus, subjects.cancel(tenant), self._on_cancel)
        await self._listen(bus, subjects.worker(tenant, self.options.name), self._on_request)
        for hosted in self._hosted.values():
            for cut in hosted.cuts:
                await self._listen(bus, subjects.infer(tenant, hosted.model, cut), self._on_request, subjects.POOL)
        self._pulse = asyncio.create_task(self._beat(), name="heartbeats")

    async def _listen(self, bus: Bus, subject: str, sink: MessageSink, queue: str = "") -> None:
        self._interests.append(await bus.subscribe(subject, sink, queue=queue))

    async def drain(self, timeout_s: float) -> None:
        """Say so, refuse what is new, finish what was taken; what is not done in time is refused too. Idempotent."""
        if self.draining:
            return
        self.draining = True
        self._queue.close()
        await self._send_heartbeat()
        cancellations, *requests = self._interests or (None,)
        await asyncio.gather(*(interest.unsubscribe() for interest in requests if interest))
        if self._bus is not None:
            await self._pump()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            left = self._queue.take_all()
            _log.warning("%d requests were not served within %g s of draining", len(left), timeout_s)
            for job in left:
                await self._desk.refuse(job, Nack(NackCode.DRAINING, "the worker is going away"))
        if self._tasks:
            await asyncio.wait(self._tasks)  # a model's run can't be interrupted, and is short
        if cancellations is not None:
            await cancellations.unsubscribe()
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.wait({self._pulse})
        self._executor.shutdown(wait=False)

    @property
    def ready(self) -> bool:
        return self._pulse is not None and not self.draining and self._bus is not None and self._bus.connected

    def readiness(self) -> tuple[bool, str]:
        """(ready, why not)."""
        if self.draining:
            return False, "draining"
        if self._pulse is None:
            return False, "warming up"
        return (True, "") if self.ready else (False, "no connection to the broker")

    def status(self) -> CloudStatus:
        return CloudStatus(
            worker=self.options.name,
            models=list(self._hosted),
            queue_depth=len(self._queue),
            predicted_wait_ms=self._queue.predicted_wait_ns(time.monotonic_ns()) / 1e6,
            served=self._desk.served if self._bus else 0,
            nacked=dict(self._desk.nacked) if self._bus else {},
            ready=self.ready,
            draining=self.draining,
        )

    # arrivals

    async def _on_request(self, message: Message) -> None:
        arrived_ns = time.monotonic_ns()
        if not message.reply:
            _log.warning("a request on %s names nobody to answer", message.subject)
            return
        request: InferRequest | None = None
        try:
            request = InferRequest.decode(message.payload)
            job = self._admissible(request, message, arrived_ns)
        except MeshError as exc:
            await self._desk.refuse_message(message.reply, request, nack_for(exc))
            return
        refusal = self._push(job, arrived_ns)
        if refusal is None:
            self._idle.clear()
            await self._pump()
        else:
            await self._desk.refuse(job, explain(refusal, job, waiting=len(self._queue)))

    def _admissible(self, request: InferRequest, message: Message, arrived_ns: int) -> Job:
        budget_ns = headers.budget_us(message.headers) * 1000
        hosted = self._hosted.get(request.model)
        if hosted is None:
            raise ModelError(f"{request.model} is not served here, only {', '.join(self._hosted)}")
        hosted.check(request.cut, request.model_sha256)
        traceparent = headers.traceparent(message.headers)
        trace = self._tracing.continue_trace(traceparent, arrived_ns, frame_id=request.frame_id)
        taken = self._taken[hosted.model, request.cut]
        return Job(request, message.reply, hosted, taken, trace, arrived_ns, arrived_ns + budget_ns)

    def _push(self, job: Job, now_ns: int) -> Refusal | None:
        return self._queue.push(
            job.id,
            job,
            deadline_ns=job.deadline_ns,
            cost_ns=job.taken.mean_ns(now_ns),
            slack_ns=job.taken.slack_ns(now_ns),
            now_ns=now_ns,
        )

    async def _on_cancel(self, message: Message) -> None:
        try:
            frame_id = Cancel.decode(message.payload).frame_id
        except WireError as exc:
            _log.warning("malformed cancellation: %s", exc)
            return
        waiting = self._queue.cancel(frame_id)
        if waiting is not None:
            await self._desk.refuse(waiting, Nack(NackCode.CANCELLED, "cancelled while it waited"))
            self._settle()
        elif frame_id in self._running:
            self._running[frame_id].abandoned = True

    # service

    async def _pump(self) -> None:
        """Start what a slot is free for, and tell those that can't make it any more."""
        while True:
            job, expired = self._queue.pop(time.monotonic_ns())
            if job is not None:
                self._running[job.id] = job
                task = asyncio.create_task(self._serve(job), name=f"serve {job.id}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            for late in expired:
                await self._desk.refuse(late, Nack(NackCode.EXPIRED, "the budget ran out in the queue"))
            if job is None:
                self._settle()
                return

    async def _serve(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        request = job.request
        try:
            run = await loop.run_in_executor(
                self._executor, job.hosted.execute, request.cut, request.payload, lambda: job.abandoned
            )
            job.taken.observe(run.end_ns - run.start_ns, time.monotonic_ns())
            self._release(job)
            await self._desk.answer(job, run)
        except Abandoned as exc:
            self._release(job)
            await self._desk.refuse(job, Nack(NackCode.CANCELLED, exc.message))
        except Exception as exc:  # noqa: BLE001 - told to the sender and logged; the next request must be served
            self._release(job)
            _log.log(
                logging.WARNING if isinstance(exc, MeshError) else logging.ERROR,
                "frame %s failed: %s",
                job.id,
                exc,
                exc_info=None if isinstance(exc, MeshError) else exc,
            )
            await self._desk.refuse(job, nack_for(exc))
        finally:
            await self._pump()

    def _release(self, job: Job) -> None:
        if self._running.pop(job.id, None) is not None:
            self._queue.done(job.id)

    def _settle(self) -> None:
        if self._queue.idle:
            self._idle.set()

    # load

    def _wait_us(self) -> int:
        return min(MAX_US, self._queue.predicted_wait_ns(time.monotonic_ns()) // 1000)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._send_heartbeat()
            await self._pump()  # tells those that expired behind a long run
            due = max(due + self.options.heartbeat_s, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _send_heartbeat(self) -> None:
        if self._bus is None:
            return
        wait_us, depth = self._wait_us(), len(self._queue)
        self._metrics.load(queue_depth=depth, predicted_wait_s=wait_us / 1e6)
        self._beats += 1
        beat = Heartbeat(self.options.name, self._beats, self._announced, wait_us, depth, self.draining)
        if not self._bus.connected:
            return
        try:
            await self._bus.publish(subjects.load(self.options.tenant), beat.encode())
        except BusError as exc:
            _log.debug("heartbeat not sent: %s", exc)
        else:
            self._metrics.heartbeats_total.inc()

    def __repr__(self) -> str:
        return f"<Worker {self.options.name} models={list(self._hosted)} {self._queue!r} draining={self.draining}>"
