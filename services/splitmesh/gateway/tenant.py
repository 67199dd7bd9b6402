"""Owns the gateway's view of one tenant's part of the mesh: what its edges and workers say, and asking them.

Subjects are made of the tenant's name alone, so that no request of one tenant can reach or hear another's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable

from splitmesh.bus.base import Bus, Message, Subscription
from splitmesh.errors import BusError, NoResponders, UnknownName, WireError
from splitmesh.gateway.fleet import Fleet
from splitmesh.gateway.remembered import Remembered
from splitmesh.gateway.watching import Watched, watch_edge
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire import subjects
from splitmesh.wire.checks import check_id
from splitmesh.wire.control import reply_from, report_from, spans_from
from splitmesh.wire.messages import Heartbeat
from splitmesh.wire.packing import pack

_log = logging.getLogger(__name__)

ASK_EDGE_S = 3.0
"""An edge behind a thin, full uplink answers late."""
ASK_WORKER_S = 1.0

OwnSpans = Callable[[str], Iterable[pb.SpanReport]]
Hear = Callable[[Heartbeat, int], None]
Report = Callable[[pb.EdgeReport], None]


class TenantMesh:
    """One tenant. gateway: this gateway's name, the first part of the ids of its own frames. own_spans: those of such
    a frame in this process."""

    def __init__(self, tenant: str, bus: Bus, fleet: Fleet, *, gateway: str, own_spans: OwnSpans) -> None:
        self.tenant = tenant
        self.bus = bus
        self.remembered = Remembered()
        self.malformed = 0
        self._fleet = fleet
        self._gateway = gateway
        self._own_spans = own_spans
        self._interests: list[Subscription] = []
        self._hearers: list[Hear] = []
        self._reports: set[Report] = set()

    async def start(self) -> None:
        """Hear heartbeats and reports from now on. Raises BusError."""
        self._interests.append(await self.bus.subscribe(subjects.load(self.tenant), self._on_heartbeat))
        self._interests.append(await self.bus.subscribe(subjects.statuses(self.tenant), self._on_report))

    async def stop(self) -> None:
        await asyncio.gather(*(interest.unsubscribe() for interest in self._interests))
        self._interests.clear()

    def on_heartbeat(self, hear: Hear) -> None:
        """`hear` is told each heartbeat and when it came, monotonic ns."""
        self._hearers.append(hear)

    def listen(self, report: Report) -> Callable[[], None]:
        """`report` is told each report of an edge until what this returns is called."""
        self._reports.add(report)
        return lambda: self._reports.discard(report)

    # -- asking ---------------------------------------------------------------------------------------------------

    async def ask_edge(self, edge: str, command: pb.EdgeCommand) -> pb.EdgeReply:
        """What it says, refusals among it. Raises UnknownName, BusError, WireError."""
        try:
            message = await self.bus.request(subjects.command(self.tenant, edge), pack(command), timeout_s=ASK_EDGE_S)
        except NoResponders as exc:
            raise UnknownName(f"no edge {edge!r} is there", field="edge", name=edge) from exc
        return reply_from(message.payload, edge=edge)

    def watch(self, edge: str, request: pb.WatchRequest, *, actor: str) -> AsyncGenerator[Watched]:
        """See `watch_edge`."""
        return watch_edge(
            self.bus, lambda command: self.ask_edge(edge, command), self.tenant, edge, request, actor=actor
        )

    async def explain(self, frame_id: str, *, actor: str) -> tuple[pb.Explained, list[str]]:
        """(the frame's record and spans of all who kept some, who did not answer). Raises UnknownName, MeshError."""
        story = await self._record(check_id(frame_id, field="frame_id"), actor)
        worker, silent = story.frame.worker_id, []
        if worker and not any(span.service == "cloud" for span in story.spans):
            try:
                story.spans.extend(await self._spans(worker, frame_id))
            except (BusError, WireError) as exc:
                _log.info("%s says nothing of %s: %s", worker, frame_id, exc)
                silent.append(worker)
        spans = sorted(story.spans, key=lambda span: span.start_unix_ns)
        del story.spans[:]
        story.spans.extend(spans)
        return story, silent

    async def _record(self, frame_id: str, actor: str) -> pb.Explained:
        own = self.remembered.get(frame_id)
        if own is not None:
            own.spans.extend(self._own_spans(frame_id))
            return own
        edge = frame_id.partition(".")[0]
        if edge == self._gateway:
            raise UnknownName(f"frame {frame_id} is not remembered here", field="frame_id", name=frame_id)
        command = pb.EdgeCommand(actor=actor, explain=pb.ExplainRequest(frame_id=frame_id))
        reply = await self.ask_edge(edge, command)
        if reply.WhichOneof("outcome") != "explained":
            detail = reply.refused.detail or "it gave no record"
            raise UnknownName(f"{edge} does not explain {frame_id}: {detail}", field="frame_id", name=frame_id)
        return reply.explained

    async def _spans(self, worker: str, frame_id: str) -> list[pb.SpanReport]:
        request = pack(pb.SpansRequest(frame_id=frame_id))
        message = await self.bus.request(subjects.spans(self.tenant, worker), request, timeout_s=ASK_WORKER_S)
        return list(spans_from(message.payload).spans)

    # -- hearing --------------------------------------------------------------------------------------------------

    async def _on_heartbeat(self, message: Message) -> None:
        try:
            beat = Heartbeat.decode(message.payload)
        except WireError as exc:
            self._count_malformed("heartbeat", exc)
            return
        now_ns = time.monotonic_ns()
        self._fleet.on_heartbeat(self.tenant, beat, now_ns)
        for hear in self._hearers:
            hear(beat, now_ns)

    async def _on_report(self, message: Message) -> None:
        try:
            said = report_from(message.payload, edge=message.subject.rpartition(".")[2])
        except WireError as exc:
            self._count_malformed("report", exc)
            return
        self._fleet.on_report(self.tenant, said, time.monotonic_ns())
        for report in list(self._reports):
            report(said)

    def _count_malformed(self, what: str, exc: WireError) -> None:
        self.malformed += 1
        if self.malformed & (self.malformed - 1) == 0:  # at 1, 2, 4, 8, …
            _log.warning("malformed %s of tenant %s (%d so far): %s", what, self.tenant, self.malformed, exc)
