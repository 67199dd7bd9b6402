"""Owns `meshload record`: what edges ask of a live mesh goes into a file."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from meshload import text
from meshload.errors import LoadError
from meshload.loop import run_loop
from meshload.recording.entries import End
from meshload.recording.recorder import Recorder
from meshload.stages import duration_s
from meshload.targets import TargetOptions, split
from splitmesh.cli.outer import EXIT_INTERRUPTED
from splitmesh.settings.units import parse_bytes

EXIT_NOTHING = 4
_LEAST_BYTES = 64 * 1024
_TELL_S = 1.0
_ENDS = {
    "time": "the time was over",
    "interrupted": "interrupted",
    "limit": "STOPPED AT --limit, before its time: the file is as large as it may be",
}
_PICTURES = (
    "it holds what cameras saw, for whoever can read it: keep it as you keep videos (--no-payloads leaves it out)"
)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("target")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file, which only you may read.",
)
@click.option("-d", "--duration", default="30s", metavar="TIME", help="How long.  [default: 30s]")
@click.option("--limit", default="1GB", metavar="SIZE", help="The file is never larger.  [default: 1GB]")
@click.option(
    "--no-payloads", is_flag=True, help="Keep when what was asked and its size, but no pictures or tensors."
)
@click.option("--connect-timeout", default="5s", metavar="TIME", help="For connecting.  [default: 5s]")
@click.option(
    "--tls-ca", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Certificates to trust, PEM."
)
@click.option("--tls-insecure", is_flag=True, help="Trust any certificate.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def record(
    target: str,
    output: Path,
    duration: str,
    limit: str,
    no_payloads: bool,
    connect_timeout: str,
    tls_ca: Path | None,
    tls_insecure: bool,
    quiet: bool,
) -> int:
    """Record what edges ask of the workers of a tenant: TARGET is nats://host[:port]/tenant.

    It only listens. The file has each request's time, budget, size and, without --no-payloads, its payload:
    pictures of people where cameras see people, and tensors that pictures can be guessed from. Ctrl-C or SIGTERM ends
    it early and keeps what came. `meshload replay` asks it again.

    \b
    Examples:
      meshload record nats://127.0.0.1/default -o busy.rec
      meshload record --no-payloads -d 10m nats://127.0.0.1/default -o busy.rec

    \b
    Exit status:
      0 done, also at --limit    1 the broker can't be used    2 wrong usage
      4 nothing came, or the broker was lost (what came until then is kept)    130 interrupted (what came is kept)
    """
    length_s = duration_s(duration, what="-d")
    if length_s <= 0:
        raise LoadError("-d must be above 0")
    options = TargetOptions(
        connect_timeout_s=duration_s(connect_timeout, what="--connect-timeout"),
        tls_ca=tls_ca,
        tls_insecure=tls_insecure,
    )
    recording = _record(target, options, output, length_s, _limit_bytes(limit), payloads=not no_payloads, quiet=quiet)
    end, size = run_loop(recording)
    if not quiet:
        _report(output, end, size, payloads=not no_payloads)
    if end.why == "interrupted":
        return EXIT_INTERRUPTED
    return 0 if end.requests and end.why in _ENDS else EXIT_NOTHING


async def _record(
    url: str, options: TargetOptions, output: Path, length_s: float, limit_bytes: int, *, payloads: bool, quiet: bool
) -> tuple[End, int]:
    recorder = Recorder(url, split(url), options, payloads=payloads, limit_bytes=limit_bytes)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, recorder.stop)
    teller = loop.create_task(_tell(recorder, length_s, live=not quiet and sys.stderr.isatty()))
    try:
        return await recorder.record(output, length_s), recorder.file_bytes
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _tell(recorder: Recorder, length_s: float, *, live: bool) -> None:
    second = 0
    while live:
        line = f"{second:5} of {length_s:g} s   {recorder.requests:,} requests   {text.size(recorder.file_bytes)}"
        click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        await asyncio.sleep(_TELL_S)
        second += 1


def _limit_bytes(limit: str) -> int:
    try:
        found = parse_bytes(limit)
    except ValueError as exc:
        raise LoadError(f"--limit {exc}", advice="write it as 500MB or 2GiB") from exc
    if found < _LEAST_BYTES:
        raise LoadError(f"--limit {limit} is less than {_LEAST_BYTES} bytes")
    return found


def _report(output: Path, end: End, size: int, *, payloads: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    click.echo(f"{output}: {end.requests:,} requests in {end.duration_ns / 1e9:.1f} s, {text.size(size)}")
    click.echo(f"  {_ENDS.get(end.why, f'THE BROKER WAS LOST: {end.why}')}")
    if end.unreadable:
        click.echo(f"  {end.unreadable:,} messages on the subjects were no requests and are left out")
    if not end.requests:
        click.echo("  NOTHING CAME: is an edge of this tenant running, and does it ask the cloud?")
    elif payloads:
        click.echo(f"  {_PICTURES}")
