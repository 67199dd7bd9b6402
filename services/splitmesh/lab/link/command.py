"""Owns `splitmesh link`: the relay as a process of its own. Shapes nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from splitmesh.errors import OutputError
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
            announce_ready(settings.ready_json, name="link", pid=os.getpid(), port=relay.port)
            _log.info("port %d leads to %s; %s", relay.port, settings.target, trace.describe())
            await stop.wait()
        finally:
            await relay.stop()


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
