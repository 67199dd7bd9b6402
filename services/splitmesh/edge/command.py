"""Composes and runs one edge: `splitmesh edge`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time

from splitmesh.bus.base import Bus
from splitmesh.bus.interest import BusState
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.security import Security
from splitmesh.edge.commanded import Commanded
from splitmesh.edge.device import Device
from splitmesh.edge.device_work import DeviceWork
from splitmesh.edge.front import Front
from splitmesh.edge.observer import Observer
from splitmesh.edge.offers import Offers
from splitmesh.edge.offload import Offloader
from splitmesh.edge.parts import Parts
from splitmesh.edge.pipeline import Pipeline
from splitmesh.edge.previewing import Previewing
from splitmesh.edge.recall import REMEMBERED_FRAMES, Recall
from splitmesh.edge.results import ResultLog
from splitmesh.edge.service import EdgeParts, EdgeService
from splitmesh.edge.settlement import Settlement
from splitmesh.edge.steering import Course, Steering
from splitmesh.edge.watching import Watching
from splitmesh.errors import BusUnavailable
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.plan.bundle.choice import points_for
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.baselines import LocalOnly, make_policy
from splitmesh.policy.energy import PowerBudget, PowerModel
from splitmesh.policy.world import World
from splitmesh.provision.parts import log_stages
from splitmesh.provision.plan import provide_plan
from splitmesh.settings.model import EdgeSettings
from splitmesh.settings.process import announce_ready, pin_process, settle_memory
from splitmesh.telemetry.metrics import EdgeMetrics, Metrics, Reconnected
from splitmesh.telemetry.tracing import Tracing
from splitmesh.web.server import StatusServer

_log = logging.getLogger(__name__)

_FIRST_CONTACT_S = 3.0
"""How long the first frame waits for the broker; after that the edge starts alone."""
_ATTACH_AGAIN_S = 0.5


def run(settings: EdgeSettings) -> int:
    """Run until the source ends or SIGINT/SIGTERM; the exit status."""
    pin_process(settings.cpu)
    bundle = provide_plan(
        model=settings.model,
        manifest=settings.manifest,
        plan=settings.plan,
        source=settings.source,
        threads=settings.threads,
        providers=settings.providers,
        progress=log_stages(),
    )
    return asyncio.run(_run(settings, bundle))


async def _run(settings: EdgeSettings, bundle: Bundle) -> int:
    async with contextlib.AsyncExitStack() as closing:
        metrics = Metrics()
        service, settlement = await _compose(settings, bundle, metrics, closing)
        web_port = await _serve_pages(settings, service, metrics, closing)
        ticking = asyncio.create_task(_tick(service), name="metrics")
        closing.callback(ticking.cancel)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, service.stop)
        settle_memory()
        announce_ready(settings.ready_json, name=settings.name, pid=os.getpid(), web_port=web_port)
        await service.run()
    _log.info("%r", settlement.ledger)
    return 0 if settlement.ledger.conserved else 1


async def _compose(
    settings: EdgeSettings, bundle: Bundle, metrics: Metrics, closing: contextlib.AsyncExitStack
) -> tuple[EdgeService, Settlement]:
    """Everything the loop needs, in the order of need; `closing` undoes it in reverse."""
    points = points_for(settings.policy, bundle)
    world = World(points, track_kappa=bundle.track_kappa)
    board = PowerModel(settings.power_idle_w, settings.power_active_w, settings.radio_nj_per_bit)
    power = PowerBudget(settings.power_budget_w, board) if settings.power_budget_w else None
    steering = Steering(
        Course(settings.policy, settings.deadline_ms, settings.uplink_budget_bps),
        world,
        lambda policy, budget_bps: make_policy(policy, points, uplink_budget_bps=budget_bps or None, power=power),
    )
    tracing = Tracing(
        "edge",
        instance=settings.name,
        sample_ratio=settings.trace_ratio,
        span_log=settings.span_log,
        otlp_endpoint=settings.otlp_endpoint,
        recent_frames=REMEMBERED_FRAMES,
    )
    closing.push_async_callback(asyncio.to_thread, tracing.close)
    metrics.edge.spans_dropped.set_function(lambda: tracing.spans_dropped)
    results = ResultLog(settings.results) if settings.results else None
    if results is not None:
        closing.callback(results.close)
    alone = isinstance(steering.policy, LocalOnly)
    offloader = None if alone else Offloader(world, bundle, edge=settings.name, tenant=settings.tenant)
    offers = Offers(offloader, world, bundle)
    closing.callback(offers.close)
    parts = await asyncio.to_thread(
        Parts, bundle, threads=settings.threads, points=points, providers=settings.providers
    )
    device = Device(slowdown=settings.edge_slowdown)
    closing.push_async_callback(asyncio.to_thread, device.close)
    connecting = None
    if offloader is not None:
        connecting = await _start_connecting(settings, offloader, metrics.edge, closing)
    source = open_source(
        settings.source,
        pace=settings.pace,
        loop=settings.loop,
        duration_s=settings.duration_s,
        max_fps=settings.max_fps or None,
        ring_capacity=settings.ring_capacity,
        hwaccel=settings.hwaccel,
    )
    settlement = Settlement(run_ns=time.monotonic_ns(), metrics=metrics.edge, results=results, learner=steering)
    work = DeviceWork(device, parts, world)
    observer = Observer(world, kind=bundle.manifest.postprocess.kind)
    running = EdgeParts(
        name=settings.name,
        run_id=secrets.token_hex(4),
        pace=settings.pace,
        drain_s=settings.drain_s,
        source=source,
        preparer=Preparer.from_manifest(bundle.manifest),
        observer=observer,
        steering=steering,
        world=world,
        device=work,
        pipeline=Pipeline(world=world, device=work, offers=offers, observer=observer, settlement=settlement),
        settlement=settlement,
        offloader=offloader,
        tracing=tracing,
        metrics=metrics.edge,
        board=board,
    )
    service = EdgeService(running)
    if connecting is not None:
        front = _front(settings, bundle, running, device, service)
        settlement.witness = front.witness
        _open_front(front, connecting, closing)
    return service, settlement


def _front(settings: EdgeSettings, bundle: Bundle, running: EdgeParts, device: Device, service: EdgeService) -> Front:
    commanded = Commanded(
        edge=running.name,
        run_id=running.run_id,
        steering=running.steering,
        watching=Watching(),
        recall=Recall(),
        world=running.world,
        tracing=running.tracing,
        device=device if settings.allow_experiments else None,
        metrics=running.metrics,
    )
    previewing = Previewing(bundle.manifest, edge=settings.name)
    return Front(commanded, previewing, service.status, tenant=settings.tenant, model=bundle.manifest.name)


def _open_front(front: Front, connecting: asyncio.Task[Bus], closing: contextlib.AsyncExitStack) -> None:
    """It takes the bus once that is there."""

    async def attach() -> None:
        bus = await asyncio.shield(connecting)
        while True:
            try:
                return await front.attach(bus)
            except BusUnavailable as exc:
                _log.info("nobody is told yet: %s", exc)
                await asyncio.sleep(_ATTACH_AGAIN_S)

    attaching = asyncio.create_task(attach(), name="front")

    async def close() -> None:
        attaching.cancel()
        await asyncio.gather(attaching, return_exceptions=True)
        await front.close()

    closing.push_async_callback(close)


async def _serve_pages(
    settings: EdgeSettings, service: EdgeService, metrics: Metrics, closing: contextlib.AsyncExitStack
) -> int | None:
    """The port of the status pages, None if they are off."""
    if settings.web_port is None:
        return None
    web = StatusServer(
        settings.web_host,
        settings.web_port,
        registry=metrics.registry,
        status=lambda: service.status().to_json(),
        ready=lambda: (not service.finished, "the source has ended"),
    )
    await web.start()
    closing.push_async_callback(web.stop)
    return web.port


async def _start_connecting(
    settings: EdgeSettings, offloader: Offloader, metrics: EdgeMetrics, closing: contextlib.AsyncExitStack
) -> asyncio.Task[Bus]:
    """Connect in the background; the first frame waits for it a little. Raises BusError for an impossible address."""
    connecting = asyncio.create_task(_connect(settings, offloader, metrics), name="connect")

    async def disconnect() -> None:
        connecting.cancel()
        bus = (await asyncio.gather(connecting, return_exceptions=True))[0]
        if not isinstance(bus, BaseException):
            await bus.drain()

    closing.push_async_callback(disconnect)
    await asyncio.wait({connecting}, timeout=_FIRST_CONTACT_S)
    if connecting.done():
        connecting.result()  # an address that can never work is told now, not waited for
    return connecting


async def _connect(settings: EdgeSettings, offloader: Offloader, metrics: EdgeMetrics) -> Bus:
    """A bus that the offloader listens on. Waits for the broker as long as it takes; raises BusError if it can't."""
    seen: list[str] = []

    def on_state(state: str) -> None:
        if state == BusState.CONNECTED and seen:
            metrics.reconnected(Reconnected.BROKER)
        seen.append(state)

    bus = await connect_nats(settings.nats_url, name=settings.name, security=Security.of(settings), on_state=on_state)
    try:
        while True:
            try:
                await offloader.attach(bus)
            except BusUnavailable as exc:  # it went in this very moment, and will be back
                _log.info("no heartbeats yet: %s", exc)
                await asyncio.sleep(_ATTACH_AGAIN_S)
            else:
                return bus
    except BaseException:
        await bus.drain()
        raise


async def _tick(service: EdgeService) -> None:
    while True:
        service.refresh_metrics()
        await asyncio.sleep(1.0)
