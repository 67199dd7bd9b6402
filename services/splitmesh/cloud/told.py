"""Owns what a worker tells of single frames: the spans of those that it finished last. Refuses other tenants' frames.

Spans that nobody sampled go to the collector when their edge keeps the frame after all.

Of more requests than a few a second the rest stay unanswered: frames come first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial

from splitmesh.bus.base import Bus, Message
from splitmesh.errors import BusError, WireError
from splitmesh.schedule.tenants import TokenBucket
from splitmesh.telemetry.metrics import Asked, CloudMetrics
from splitmesh.telemetry.recent import span_reports
from splitmesh.telemetry.tracing import Tracing
from splitmesh.wire import subjects
from splitmesh.wire.control import SpansReply, keep_from, pack, spans_request_from

_log = logging.getLogger(__name__)

REMEMBERED_FRAMES = 2000
REQUESTS_PER_S = 20.0
_MOST_AT_ONCE = 40.0


async def tell_spans(bus: Bus, worker: str, tenants: Iterable[str], tracing: Tracing, metrics: CloudMetrics) -> None:
    """Answer each of `tenants` from now on until the bus is drained. Raises BusUnavailable."""
    for tenant in tenants:
        answer = partial(_answer, bus, tenant, tracing, metrics, TokenBucket(REQUESTS_PER_S, _MOST_AT_ONCE))
        await bus.subscribe(subjects.spans(tenant, worker), answer)
        if tracing.exports:
            await bus.subscribe(subjects.keep(tenant), partial(_keep, tenant, tracing))


async def _keep(tenant: str, tracing: Tracing, message: Message) -> None:
    """Export the part of frames that their edge keeps after all."""
    try:
        for frame_id in keep_from(message.payload):
            tracing.keep(frame_id, owner=tenant)
    except WireError as exc:
        _log.warning("malformed wish to keep traces: %s", exc)


async def _answer(
    bus: Bus, tenant: str, tracing: Tracing, metrics: CloudMetrics, admitted: TokenBucket, message: Message
) -> None:
    """A frame that is unknown, or none at all, has no spans."""
    if not message.reply or admitted.missing_ns(1, time.monotonic_ns()):
        metrics.spans_asked(Asked.IGNORED)
        return
    admitted.take(1)
    try:
        rows = tracing.recent_rows(spans_request_from(message.payload).frame_id, owner=tenant)
    except WireError as exc:
        _log.debug("a request for spans is refused: %s", exc)
        rows = []
    metrics.spans_asked(Asked.ANSWERED if rows else Asked.REFUSED)
    try:
        await bus.publish(message.reply, pack(SpansReply(spans=span_reports(rows))))
    except BusError as exc:
        _log.debug("spans not told: %s", exc)
