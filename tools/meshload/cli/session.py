"""Owns a run as a person meets it: a live line on a terminal, and Ctrl-C that keeps what was counted."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from meshload import text
from meshload.links import through_link
from meshload.results import document_of
from meshload.run import Run
from meshload.single import Tick
from meshload.spec import RunSpec

_CLEAR = "\r\x1b[K"


class Screen:
    """The live line, on standard error, and only where that is a terminal."""

    def __init__(self, length_s: float, *, quiet: bool) -> None:
        self._length_s = length_s
        self._live = not quiet and sys.stderr.isatty()

    def tick(self, tick: Tick) -> None:
        if self._live:
            click.echo(_CLEAR + text.progress(tick, length_s=self._length_s), err=True, nl=False)

    def clear(self) -> None:
        if self._live:
            click.echo(_CLEAR, err=True, nl=False)


async def put_load(spec: RunSpec, *, link: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """Run `spec`, behind `link` if one is named; the figures. Ctrl-C ends it and keeps what was counted.

    Raises what `Run.run` and `through_link` raise.
    """
    screen = Screen(spec.measured_s, quiet=quiet)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        ran, begin = spec, _nothing
        if link:
            total_s = spec.warmup_s + spec.measured_s
            linked = await stack.enter_async_context(through_link(spec.url, link, duration_s=total_s))
            ran, begin = replace(spec, url=linked.url), linked.begin
        run = Run(ran, on_ready=lambda *_: _later(spec.warmup_s, begin), on_tick=screen.tick)

        def interrupt() -> None:
            loop.remove_signal_handler(signal.SIGINT)  # the next one ends us at once
            screen.clear()
            click.echo("interrupted: counting what came until now", err=True)
            run.stop()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            outcome = await run.run()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            screen.clear()
        figures = document_of(spec, outcome, started=started)
        if link:
            figures["link"] = linked.description
            figures["link_seconds"] = linked.seconds()
    return figures


def _later(seconds: float, call: Any) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


def _nothing() -> None:
    return None
