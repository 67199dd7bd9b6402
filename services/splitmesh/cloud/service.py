"""Owns a worker: takes requests from the bus, serves those that can make it, and answers every single one.

Refusals say why. Whatever goes wrong with one request is told to its sender and touches no other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.cloud.desk import ReplyDesk
from splitmesh.cloud.dispatch import Dispatch
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.intake import Intake
from splitmesh.cloud.pulse import Load, Pulse
from splitmesh.cloud.slots import Slots
from splitmesh.cloud.tenancy import Tenancy
from splitmesh.errors import MeshError, ModelError, WireError
from splitmesh.frames.status import CloudStatus
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.schedule.tenants import Tenant
from splitmesh.telemetry.metrics import CloudMetrics
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import subjects
from splitmesh.wire.checks import MAX_US
from splitmesh.wire.messages import Cancel, Nack, NackCode, TableReply
from splitmesh.wire.nacks import nack_for
from splitmesh.wire.requests import InferRequest, StreamRequest, TableOffer, decode_request

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """slots: runs at the same time. queue_limit: requests that may wait. max_batch: requests that one may serve."""

    name: str
    tenants: tuple[Tenant, ...] = (Tenant("default"),)
    slots: int = 1
    queue_limit: int = 64
    heartbeat_s: float = 0.2
    max_batch: int = 1


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
        self._tracing = tracing
        self._dispatch = Dispatch(options.tenants, slots=options.slots, queue_limit=options.queue_limit)
        self._tenancies: dict[str, Tenancy] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._slots = Slots(options.slots, self._dispatch, self._tenancies)
        self._taken: dict[tuple[str, str], ServiceTime] = {}
        self._bus: Bus | None = None
        self._cancellations: list[Subscription] = []
        self._requests: list[Subscription] = []
        self._pulse: Pulse | None = None
        self.draining = False

    # life

    async def warm_up(self) -> None:
        """Run every part; until then `start` refuses. Raises InferenceError, ModelError."""
        for hosted in self._hosted.values():
            loop = asyncio.get_running_loop()
            times = await loop.run_in_executor(self._slots.executor, hosted.warm_up, self.options.max_batch)
            for cut, taken_ns in times.items():
                self._taken[hosted.model, cut] = ServiceTime(taken_ns[1])
                self._dispatch.host(hosted.model, cut, taken_ns)
            shown = " ".join(f"{cut or 'whole'} {taken_ns[1] / 1e6:.1f} ms" for cut, taken_ns in times.items())
            _log.info("%r is warm: %s", hosted, shown)

    async def start(self, bus: Bus) -> None:
        """Subscribe and send the first heartbeats: from now on requests come. Raises BusError."""
        if not self._taken:
            raise ModelError("the worker was not warmed up")
        self._bus = bus
        for tenant in self.options.tenants:
            await self._open(tenant.name, bus)
        self._pulse = Pulse(
            self.options.name,
            tuple(self._tenancies),
            self._announced,
            bus,
            self._metrics,
            load=self._load,
            attend=self._attend,
        )
        self._pulse.start(self.options.heartbeat_s)

    async def _open(self, tenant: str, bus: Bus) -> None:
        """Listen on the tenant's subjects."""
        intake = Intake(tenant, self._hosted, self._taken, self._tracing, of=len(self.options.tenants))
        desk = ReplyDesk(self.options.name, bus, self._metrics, partial(self._wait_us, tenant))
        tenancy = self._tenancies[tenant] = Tenancy(tenant, intake, desk)
        name = self.options.name
        self._cancellations.append(await bus.subscribe(subjects.cancel(tenant), partial(self._on_cancel, tenancy)))
        on_table, on_request = partial(self._on_table, tenancy), partial(self._on_request, tenancy)
        self._requests.append(await bus.subscribe(subjects.table(tenant, name), on_table))
        self._requests.append(await bus.subscribe(subjects.worker(tenant, name), on_request))
        for hosted in self._hosted.values():
            for cut in hosted.cuts:
                subject = subjects.infer(tenant, hosted.model, cut)
                self._requests.append(await bus.subscribe(subject, on_request, queue=subjects.POOL))

    async def drain(self, timeout_s: float) -> None:
        """Say so, refuse what is new, finish what was taken; what is not done in time is refused too. Idempotent."""
        if self.draining:
            return
        self.draining = True
        self._dispatch.close()
        if self._pulse is not None:
            await self._pulse.beat()
        await asyncio.gather(*(each.unsubscribe() for each in self._requests))
        if self._bus is not None:
            await self._slots.pump()
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.idle()
        except TimeoutError:
            left = self._dispatch.take_all(time.monotonic_ns())
            _log.warning("%d requests were not served within %g s of draining", len(left), timeout_s)
            for job in left:
                await self._slots.refuse(job, Nack(NackCode.DRAINING, "the worker is going away"))
        await self._slots.close()
        self._reader.shutdown(wait=False)
        await asyncio.gather(*(each.unsubscribe() for each in self._cancellations))
        if self._pulse is not None:
            await self._pulse.stop()

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
        now_ns = time.monotonic_ns()
        tenancies = self._tenancies.values()
        return CloudStatus(
            worker=self.options.name,
            models=list(self._hosted),
            queue_depth=self._dispatch.depth(),
            predicted_wait_ms=self._dispatch.wait_ns(now_ns) / 1e6,
            served=sum(each.desk.served for each in tenancies),
            nacked=dict(sum((each.desk.nacked for each in tenancies), Counter())),
            ready=self.ready,
            draining=self.draining,
            tenants={each.name: self._figures(each, now_ns) for each in tenancies},
        )

    # arrivals

    async def _on_request(self, tenancy: Tenancy, message: Message) -> None:
        arrived_ns = time.monotonic_ns()
        if not message.reply:
            _log.warning("a request on %s names nobody to answer", message.subject)
            return
        request: InferRequest | None = None
        seq: int | None = None
        try:
            asked = decode_request(message.payload, message.headers)
            seq = asked.seq if isinstance(asked, StreamRequest) else None
            request = tenancy.intake.in_full(asked, arrived_ns)
            job = tenancy.intake.job(request, message, arrived_ns, seq=seq)
        except MeshError as exc:
            await tenancy.desk.refuse_message(message.reply, request, seq, nack_for(exc))
            return
        nack = self._dispatch.admit(job, arrived_ns)
        if nack is None:
            self._slots.occupied()
            await self._slots.pump()
        else:
            await tenancy.desk.refuse(job, nack)

    async def _on_table(self, tenancy: Tenancy, message: Message) -> None:
        """Read on a thread apart: a large one takes longer than the loop may wait, and slots are for frames."""
        nack = tenancy.admit_table(time.monotonic_ns())
        try:
            if nack is None:
                offer = TableOffer.decode(message.payload)
                await asyncio.get_running_loop().run_in_executor(self._reader, tenancy.intake.keep_table, offer)
                _log.info("%s sent the table of %s at %s", offer.edge_id, offer.model, offer.cut)
        except MeshError as exc:
            nack = nack_for(exc)
            _log.warning("a table was refused: %s", exc)
        if message.reply:
            await tenancy.desk.publish(message.reply, TableReply(self.options.name, nack).encode())

    async def _on_cancel(self, tenancy: Tenancy, message: Message) -> None:
        try:
            frame_id = Cancel.decode(message.payload).frame_id
        except WireError as exc:
            _log.warning("malformed cancellation: %s", exc)
            return
        waiting = self._dispatch.cancel(tenancy.name, frame_id, time.monotonic_ns())
        if waiting is not None:
            await tenancy.desk.refuse(waiting, Nack(NackCode.CANCELLED, "cancelled while it waited"))
            self._slots.settle()
        elif frame_id in tenancy.running:
            tenancy.running[frame_id].abandoned = True

    # load

    def _wait_us(self, tenant: str) -> int:
        return min(MAX_US, self._dispatch.tenant_wait_ns(tenant, time.monotonic_ns()) // 1000)

    def _figures(self, tenancy: Tenancy, now_ns: int) -> dict[str, float]:
        wait_ns = self._dispatch.tenant_wait_ns(tenancy.name, now_ns)
        return tenancy.figures(depth=self._dispatch.depth(tenancy.name), wait_ns=wait_ns)

    def _load(self, tenant: str) -> Load:
        return Load(self._wait_us(tenant), self._dispatch.depth(tenant), self.draining)

    async def _attend(self) -> None:
        """With every heartbeat: tell those that expired behind a long run, let go of streams that nobody uses."""
        await self._slots.pump()
        now_ns = time.monotonic_ns()
        self._metrics.load(queue_depth=self._dispatch.depth(), predicted_wait_s=self._dispatch.wait_ns(now_ns) / 1e9)
        for tenancy in self._tenancies.values():
            tenancy.intake.streams.trim(now_ns)
            self._metrics.tenant(
                tenancy.name,
                counts=tenancy.counts(),
                compute_s=tenancy.compute_ns / 1e9,
                predicted_wait_s=self._wait_us(tenancy.name) / 1e6,
            )

    def __repr__(self) -> str:
        return f"<Worker {self.options.name} models={list(self._hosted)} {self._dispatch!r} draining={self.draining}>"
