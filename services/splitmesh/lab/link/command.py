"""Owns `splitmesh link`: the relay as a process of its own. Shapes nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from splitmesh.errors import OutputError, SettingsError
from splitmesh.lab.link.bend import parse_command
from splitmesh.lab.link.relay import Relay
from splitmesh.provision.link.presets import load_link
from splitmesh.settings.model import LinkSettings
from splitmesh.settings.process import announce_ready
from splitmesh.settings.units import split_host_port

_log = logging.getLogger(__name__)


def run(settings: LinkSettings) -> int:
    """Relay until SIGTERM or SIGINT; the exit status. SIGUSR1 begins the trace clock.

    Raises SettingsError, OutputError.
    """
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: LinkSettings) -> None:
    trace = load_link(settings.link, duration_s=settings.duration_s, outages=settings.outage)
    with _stats_file(settings.stats) as write:
        relay = Relay(
            *split_host_port(settings.listen),
            *split_host_port(settings.target),
            trace,
            down_bps=settings.down_bps,
            queue_bytes=settings.queue_bytes,
            seed=settings.seed,
            start=settings.start,
            on_second=write,
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        await relay.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, relay.begin)
        try:
            async with _commanded(relay) if settings.commands else contextlib.nullcontext():
                announce_ready(settings.ready_json, name="link", pid=os.getpid(), port=relay.port)
                _log.info("port %d leads to %s; %s", relay.port, settings.target, trace.describe())
                await stop.wait()
        finally:
            await relay.stop()


@contextlib.asynccontextmanager
async def _commanded(relay: Relay) -> AsyncIterator[None]:
    """While open, `relay` does what standard input says. Raises SettingsError: nobody can write to that."""
    reader = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
    except ValueError as exc:
        advice = "give it a pipe or a terminal"
        raise SettingsError("standard input can't be listened to", key="commands", advice=advice) from exc
    obeying = asyncio.create_task(_obey(relay, reader), name="link: commands")
    try:
        yield
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)
        transport.close()


async def _obey(relay: Relay, reader: asyncio.StreamReader) -> None:
    """Until there are no more lines."""
    while line := await reader.readline():
        try:
            factor, length_s = parse_command(line.decode("utf-8", "replace"))
        except SettingsError as exc:
            _log.warning("%s", exc)
            continue
        relay.bend(factor, length_s)
        _log.info("bent: %g times the rate for %g s", factor, length_s)


@contextlib.contextmanager
def _stats_file(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    if path is None:
        yield None
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        out = path.open("w", encoding="utf-8", buffering=1)
    except OSError as exc:
        raise OutputError(f"{path} can't be written: {exc.strerror}", path=str(path)) from exc
    with out:
        yield lambda row: print(json.dumps(row), file=out)
