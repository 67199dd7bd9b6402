"""Owns the story of a frame of an edge that runs, as edge and worker remember it. Changes nothing there."""

from __future__ import annotations

from splitmesh.bus.base import Bus
from splitmesh.bus.nats import connect_nats
from splitmesh.cli.story import Story
from splitmesh.errors import BusError, MeshError, NoResponders, WireError
from splitmesh.telemetry.recent import span_rows
from splitmesh.telemetry.spanrow import SpanRow
from splitmesh.wire import subjects
from splitmesh.wire.checks import check_id
from splitmesh.wire.control import EdgeCommand, ExplainRequest, SpansRequest, pack, reply_from, spans_from
from splitmesh.wire.frame_reports import record_of

_ANSWER_S = 5.0


async def live_story(url: str, tenant: str, frame_id: str) -> Story:
    """frame_id: in full, as `<edge>.<run>.<seq>`. A worker that says nothing leaves its spans out.

    Raises MeshError if there is no such edge or frame, BusError, WireError.
    """
    edge = check_id(frame_id, field="frame_id").partition(".")[0]
    bus = await connect_nats(url, name="why", give_up_s=_ANSWER_S)
    try:
        command = EdgeCommand(actor="why", explain=ExplainRequest(frame_id=frame_id))
        try:
            message = await bus.request(subjects.command(tenant, edge), pack(command), timeout_s=_ANSWER_S)
        except NoResponders as exc:
            advice = "FRAME_ID must be in full, and begins with the name of the edge"
            raise MeshError(f"no edge {edge!r} of tenant {tenant!r} is there", advice=advice) from exc
        reply = reply_from(message.payload, edge=edge)
        if reply.WhichOneof("outcome") != "explained":
            raise MeshError(reply.refused.detail or f"{edge} does not explain {frame_id}")
        record = record_of(reply.explained.frame)
        rows = span_rows(reply.explained.spans)
        if record.worker:
            rows += await _worker_rows(bus, tenant, record.worker, frame_id)
        return Story(record, tuple(sorted(rows, key=lambda row: row.start_unix_ns)))
    finally:
        await bus.drain()


async def _worker_rows(bus: Bus, tenant: str, worker: str, frame_id: str) -> list[SpanRow]:
    request = pack(SpansRequest(frame_id=frame_id))
    try:
        message = await bus.request(subjects.spans(tenant, worker), request, timeout_s=_ANSWER_S)
        return span_rows(spans_from(message.payload).spans)
    except (BusError, WireError):  # it has gone, or is older than this question
        return []
