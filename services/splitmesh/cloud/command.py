"""Composes and runs one worker: `splitmesh cloud`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from splitmesh.bus.interest import BusState
from splitmesh.bus.nats import NatsBus, connect_nats
from splitmesh.bus.security import Security
from splitmesh.cloud.hosted import Hosted
from splitmesh.cloud.service import Worker, WorkerOptions
from splitmesh.cloud.told import REMEMBERED_FRAMES, tell_spans
from splitmesh.plan.bundle.read import Bundle
from splitmesh.provision.parts import log_stages, provide_parts
from splitmesh.schedule.tenants import Tenant
from splitmesh.settings.model import CloudSettings
from splitmesh.settings.process import announce_ready, pin_process, settle_memory
from splitmesh.telemetry.metrics import CloudMetrics, Metrics, Reconnected
from splitmesh.telemetry.tracing import Tracing
from splitmesh.web.server import StatusServer

_log = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS_PER_RUN = 4
"""Vision models gain little from more threads than this in one run; the others serve a second request."""
_SHORT_RUN_MS = 40.0
"""A run that takes no longer on one thread gets no more: two threads in the default model's 15 ms cost half as much
processor time again per request, and answer a lone one no sooner.
"""


def run(settings: CloudSettings) -> int:
    """Serve until SIGINT/SIGTERM, then drain; the exit status."""
    pin_process(settings.cpu)
    bundle = provide_parts(
        model=settings.model,
        manifest=settings.manifest,
        plan=settings.plan,
        threads=settings.threads,
        providers=settings.providers,
        progress=log_stages(),
    )
    return asyncio.run(_run(settings, bundle))


def share_threads(threads: int) -> tuple[int, int]:
    """(requests served at the same time, threads of each), together at most `threads`."""
    slots = -(-threads // _THREADS_PER_RUN)
    return slots, threads // slots


def open_hosted(
    bundle: Bundle, *, threads: int, providers: Sequence[str], short_ms: float = _SHORT_RUN_MS
) -> tuple[Hosted, int, int]:
    """The model, how many requests it serves at the same time and the threads of each. Slow. Raises ModelError.

    threads: of all together. short_ms: a run that takes no longer on one thread gets no more.
    """
    alone = Hosted(bundle, threads=1, providers=providers)
    if threads == 1 or alone.median_ns("") <= short_ms * 1e6:
        return alone, threads, 1
    slots, each = share_threads(threads)
    return Hosted(bundle, threads=each, providers=providers), slots, each


async def _run(settings: CloudSettings, bundle: Bundle) -> int:
    metrics = Metrics()
    tracing = Tracing(
        "cloud",
        instance=settings.name,
        sample_ratio=settings.trace_ratio,
        span_log=settings.span_log,
        otlp_endpoint=settings.otlp_endpoint,
        recent_frames=REMEMBERED_FRAMES,
    )
    metrics.cloud.spans_dropped.set_function(lambda: tracing.spans_dropped)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    web, bus = None, None
    try:
        hosted, slots, threads = await asyncio.to_thread(
            open_hosted, bundle, threads=settings.threads, providers=settings.providers
        )
        worker = Worker(
            WorkerOptions(
                name=settings.name,
                tenants=settings.tenants or (Tenant(settings.tenant),),
                slots=slots,
                queue_limit=settings.queue_limit,
                heartbeat_s=settings.heartbeat_ms / 1e3,
                max_batch=settings.max_batch,
            ),
            [hosted],
            tracing=tracing,
            metrics=metrics.cloud,
        )
        web = await _serve_pages(settings, worker, metrics)
        await worker.warm_up()
        bus = await _unless(stopping, _connect(settings, metrics.cloud))
        if bus is not None:
            await worker.start(bus)
            tenants = [tenant.name for tenant in worker.options.tenants]
            await tell_spans(bus, settings.name, tenants, tracing, metrics.cloud)
            settle_memory()
            announce_ready(
                settings.ready_json, name=settings.name, pid=os.getpid(), web_port=web.port if web else None
            )
            _log.info("%s serves %r, %d at a time with %d threads each", settings.name, hosted, slots, threads)
            await stopping.wait()
        _log.info("%s drains", settings.name)
        await worker.drain(settings.drain_s)
    finally:
        if bus is not None:
            await bus.drain()
        await asyncio.to_thread(tracing.close)
        if web is not None:
            await web.stop()
    return 0


async def _serve_pages(settings: CloudSettings, worker: Worker, metrics: Metrics) -> StatusServer | None:
    if settings.web_port is None:
        return None
    web = StatusServer(
        settings.web_host,
        settings.web_port,
        registry=metrics.registry,
        status=lambda: worker.status().to_json(),
        ready=worker.readiness,
    )
    await web.start()
    return web


async def _connect(settings: CloudSettings, metrics: CloudMetrics) -> NatsBus:
    seen: list[str] = []

    def on_state(state: str) -> None:
        if state == BusState.CONNECTED and seen:
            metrics.reconnected(Reconnected.BROKER)
        seen.append(state)

    return await connect_nats(
        settings.nats_url, name=settings.name, security=Security.of(settings), on_state=on_state
    )


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None if `stopping` came first; `work` is then cancelled."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stop):
            each.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)
