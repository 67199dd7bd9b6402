"""Composes and runs the agent of one box: `splitmesh agent`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry

from splitmesh.agent.commands import Commands
from splitmesh.agent.keeper import Surroundings
from splitmesh.agent.service import Agent
from splitmesh.agent.streams import Changes, StreamsFile, read_streams
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.security import Security
from splitmesh.settings.model import AgentSettings
from splitmesh.settings.process import announce_ready
from splitmesh.telemetry.agent import AgentMetrics
from splitmesh.web.server import StatusServer

_log = logging.getLogger(__name__)

_FIRST_CONTACT_S = 1.0
"""How long an address that can never work has to show that it can't."""
_TICK_S = 1.0


def run(settings: AgentSettings) -> int:
    """Run until SIGINT/SIGTERM, then end every edge; the exit status."""
    file = read_streams(settings)
    return asyncio.run(_run(settings, file))


async def _run(settings: AgentSettings, file: StreamsFile) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    registry = CollectorRegistry()
    metrics = AgentMetrics(registry)
    async with contextlib.AsyncExitStack() as closing:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="splitmesh-agent-"))
        around = Surroundings(
            Path(folder),
            sys.stdout if settings.log_json else sys.stderr,
            as_json=settings.log_json,
            drain_s=settings.drain_s,
            restarted=metrics.restarted,
        )
        changes = Changes(settings.changes or settings.streams.with_name(f"{settings.streams.name}.changes.json"))
        agent = Agent(settings, file, changes, around, metrics)
        web_port = await _serve_pages(settings, agent, registry, closing)
        commands = Commands(agent, metrics, name=settings.name, tenant=settings.tenant)
        await _open_bus(settings, commands, closing)
        closing.push_async_callback(agent.drain)
        closing.push_async_callback(commands.deafen)
        agent.begin()
        ticking = asyncio.create_task(_tick(agent), name="metrics")
        closing.callback(ticking.cancel)
        announce_ready(settings.ready_json, name=settings.name, pid=os.getpid(), web_port=web_port)
        _log.info("%s keeps %d streams", settings.name, len(file.streams))
        await stopping.wait()
        _log.info("%s ends its edges", settings.name)
    return 0


async def _serve_pages(
    settings: AgentSettings, agent: Agent, registry: CollectorRegistry, closing: contextlib.AsyncExitStack
) -> int | None:
    """The port of the status pages, None if they are off."""
    if settings.web_port is None:
        return None
    web = StatusServer(
        settings.web_host, settings.web_port, registry=registry, status=agent.status, ready=agent.readiness
    )
    await web.start()
    closing.push_async_callback(web.stop)
    return web.port


async def _open_bus(settings: AgentSettings, commands: Commands, closing: contextlib.AsyncExitStack) -> None:
    """Connect in the background: cameras do not wait for a broker. Raises BusError for an impossible address."""

    async def attach() -> None:
        bus = await connect_nats(settings.nats_url, name=settings.name, security=Security.of(settings))
        inner.push_async_callback(bus.drain)
        inner.push_async_callback(commands.close)
        await commands.attach(bus)

    inner = contextlib.AsyncExitStack()
    attaching = asyncio.create_task(attach(), name="connect")

    async def close() -> None:
        attaching.cancel()
        await asyncio.gather(attaching, return_exceptions=True)
        await inner.aclose()

    closing.push_async_callback(close)
    await asyncio.wait({attaching}, timeout=_FIRST_CONTACT_S)
    if attaching.done():
        attaching.result()
    attaching.add_done_callback(_tell_failure)


def _tell_failure(attaching: asyncio.Task[None]) -> None:
    """The cameras run on without a broker that refuses us; somebody has to know."""
    if not attaching.cancelled() and (exc := attaching.exception()) is not None:
        _log.error("no commands are taken: %s", exc)


async def _tick(agent: Agent) -> None:
    while True:
        agent.refresh_metrics()
        await asyncio.sleep(_TICK_S)
