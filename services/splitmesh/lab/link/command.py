"""Owns `splitmesh link`: the relay as a process of its own. Shapes nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from splitmesh.errors import MeshError, OutputError, SettingsError
from splitmesh.lab.link.formats import parse_outages
from splitmesh.lab.link.presets import PRESETS, load_link
from splitmesh.lab.link.relay import QUEUE_BYTES, Relay, Start
from splitmesh.settings.units import parse_bps, parse_bytes, parse_seconds

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What `splitmesh link` runs with. Addresses are HOST:PORT; port 0 takes a free one."""

    listen: str
    target: str
    link: str = "lab-default"
    outage: str = ""
    """As in "5s@20s,2s@40s/cut"."""
    duration_s: float = 60.0
    """Length that presets are laid out for; the relay runs until it is stopped."""
    down_bps: float | None = None
    queue_bytes: int = QUEUE_BYTES
    stats: Path | None = None
    """File that gets one JSON line per second."""
    start: Start = "first-byte"
    seed: int = 0


def run_relay(settings: RelaySettings) -> int:
    """Relay until SIGTERM or SIGINT; returns the exit status 0. SIGUSR1 begins the trace clock.

    Prints `{"ready": true, "port": N, "pid": N, "link": "…"}` to stdout once it listens. Raises SettingsError,
    OutputError.
    """
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: RelaySettings) -> None:
    host, port = parse_address(settings.listen, key="listen")
    target_host, target_port = parse_address(settings.target, key="to")
    trace = load_link(settings.link, duration_s=settings.duration_s, outages=parse_outages(settings.outage))
    with _stats_file(settings.stats) as write:
        relay = Relay(
            host,
            port,
            target_host,
            target_port,
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
            ready = {"ready": True, "port": relay.port, "pid": os.getpid(), "link": trace.describe()}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            await stop.wait()
        finally:
            await relay.stop()


def parse_address(text: str, *, key: str) -> tuple[str, int]:
    """(host, port) of "HOST:PORT" or "[IPV6]:PORT". Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"{key} {text!r} must be HOST:PORT", key=key)
    return host, int(port)


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


def _parsed(parse: Callable[[object], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    def callback(_: click.Context, parameter: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param=parameter) from None

    return callback


@click.command("link", context_settings={"show_default": True})
@click.option(
    "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="Where clients connect; port 0: a free one."
)
@click.option("--to", "target", required=True, metavar="HOST:PORT", help="Where their bytes go.")
@click.option("--link", default="lab-default", metavar="PRESET|FILE", help=f"{', '.join(PRESETS)}, or a trace file.")
@click.option("--outage", default="", metavar="LENGTH@START[/cut],…", help='As in "5s@20s"; /cut resets connections.')
@click.option("--duration", "duration_s", default="60s", callback=_parsed(parse_seconds), help="Length of a preset.")
@click.option("--down-rate", "down_bps", metavar="RATE", callback=_parsed(parse_bps), help="Downlink, as in 20Mbit.")
@click.option(
    "--queue", "queue_bytes", default=str(QUEUE_BYTES), metavar="SIZE", callback=_parsed(parse_bytes),
    help="Bytes that may wait in the link, per direction.",
)  # fmt: skip
@click.option("--stats", type=click.Path(path_type=Path, dir_okay=False), help="File for one JSON line per second.")
@click.option(
    "--start", type=click.Choice(get_args(Start)), default="first-byte",
    help="When the trace clock begins: first connection, at once, or SIGUSR1.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the jitter.")
def link(**options: Any) -> None:
    """Relay TCP through an emulated uplink, until SIGTERM or SIGINT."""
    settings = RelaySettings(**options)
    if settings.queue_bytes < 4096:
        raise click.BadParameter("must be 4096 bytes or more", param_hint="--queue")
    try:
        run_relay(settings)
    except MeshError as exc:
        raise click.ClickException(str(exc)) from exc
