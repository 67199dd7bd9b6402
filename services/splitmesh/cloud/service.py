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
from splitmesh.cloud.hosted import Abandoned, Executed, Hosted
from splitmesh.cloud.intake import Intake
from splitmesh.cloud.job import Job
from splitmesh.cloud.pulse import Load, Pulse
from splitmesh.cloud.refusals import explain
from splitmesh.errors import MeshError, ModelError, WireError
from splitmesh.frames.status import CloudStatus
from splitmesh.schedule.edf import EdfQueue, Refusal
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.telemetry.metrics import CloudMetrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import subjects
from splitmesh.wire.checks import MAX_US
from splitmesh.wire.messages import Cancel, Nack, NackCode, TableReply, WorkerTimes
from splitmesh.wire.nacks import nack_for
from splitmesh.wire.requests import InferRequest, StreamRequest, TableOffer, decode_request

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
        self._metrics = metrics
        self._queue: EdfQueue[Job] = EdfQueue(options.queue_limit, servers=options.slots)
        self._running: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(options.slots, thread_name_prefix="infer")
        self._taken: dict[tuple[str, str], ServiceTime] = {}
        self._intake = Intake(self._hosted, self._taken, tracing)
        self._bus: Bus | None = None
        self._interests: list[Subscription] = []
        self._pulse: Pulse | None = None
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
        await self._listen(bus, subjects.table(tenant, self.options.name), self._on_table)
        for hosted in self._hosted.values():
            for cut in hosted.cuts:
                await self._listen(bus, subjects.infer(tenant, hosted.model, cut), self._on_request, subjects.POOL)
        self._pulse = Pulse(self.options.name, tenant, self._announced, bus, self._metrics)
        self._pulse.start(self.options.heartbeat_s, self._load, self._attend)

    async def _listen(self, bus: Bus, subject: str, sink: MessageSink, queue: str = "") -> None:
        self._interests.append(await bus.subscribe(subject, sink, queue=queue))

    async def drain(self, timeout_s: float) -> None:
        """Say so, refuse what is new, finish what was taken; what is not done in time is refused too. Idempotent."""
        if self.draining:
            return
        self.draining = True
        self._queue.close()
        if self._pulse is not None:
            await self._pulse.beat(self._load())
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
            await self._pulse.stop()
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
        seq: int | None = None
        try:
            asked = decode_request(message.payload, message.headers)
            seq = asked.seq if isinstance(asked, StreamRequest) else None
            request = self._intake.in_full(asked, arrived_ns)
            job = self._intake.job(request, message, arrived_ns, seq=seq)
        except MeshError as exc:
            await self._desk.refuse_message(message.reply, request, seq, nack_for(exc))
            return
        refusal = self._push(job, arrived_ns)
        if refusal is None:
            self._idle.clear()
            await self._pump()
        else:
            await self._desk.refuse(job, explain(refusal, job, waiting=len(self._queue)))

    async def _on_table(self, message: Message) -> None:
        """Read on an executor's thread: a large one takes longer than the loop may wait."""
        nack = None
        try:
            offer = TableOffer.decode(message.payload)
            await asyncio.get_running_loop().run_in_executor(self._executor, self._intake.keep_table, offer)
            _log.info("%s sent the table of %s at %s", offer.edge_id, offer.model, offer.cut)
        except MeshError as exc:
            nack = nack_for(exc)
            _log.warning("a table was refused: %s", exc)
        if message.reply:
            await self._desk.publish(message.reply, TableReply(self.options.name, nack).encode())

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
                task = asyncio.create_task(self._serve(job, self._execute(job)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            for late in expired:
                await self._desk.refuse(late, Nack(NackCode.EXPIRED, "the budget ran out in the queue"))
            if job is None:
                self._settle()
                return

    def _execute(self, job: Job) -> asyncio.Future[Executed]:
        """Begun at once: a thread waits for it."""
        return asyncio.get_running_loop().run_in_executor(
            self._executor, job.hosted.execute, job.request.cut, job.decode, lambda: job.abandoned
        )

    async def _serve(self, job: Job, execution: asyncio.Future[Executed]) -> None:
        """Reply first, then start the next, then count: nobody waits for what is told about a request."""
        answered: tuple[Executed, WorkerTimes] | None = None
        try:
            run = await execution
            job.taken.observe(run.end_ns - run.start_ns, time.monotonic_ns())
            self._release(job)
            answered = run, await self._desk.answer(job, run)
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
            if answered is not None:
                self._desk.account(job, *answered)

    def _release(self, job: Job) -> None:
        if self._running.pop(job.id, None) is not None:
            self._queue.done(job.id)

    def _settle(self) -> None:
        if self._queue.idle:
            self._idle.set()

    # load

    def _wait_us(self) -> int:
        return min(MAX_US, self._queue.predicted_wait_ns(time.monotonic_ns()) // 1000)

    def _load(self) -> Load:
        return Load(self._wait_us(), len(self._queue), self.draining)

    async def _attend(self) -> None:
        """With every heartbeat: tell those that expired behind a long run, let go of streams that nobody uses."""
        await self._pump()
        self._intake.streams.trim(time.monotonic_ns())

    def __repr__(self) -> str:
        return f"<Worker {self.options.name} models={list(self._hosted)} {self._queue!r} draining={self.draining}>"
