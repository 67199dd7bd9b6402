"""Owns the inside of one process of a run with several: lines of JSON in, lines of JSON out. Ends with its input.

In: {"spec", "part"}, then {"start_ns"}, then perhaps {"stop"}. Out: {"ready"}, each second {"counts"} of it with how
far the run is, {"outcome"} of what is left; or {"failed"}.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import sys
from contextlib import suppress
from typing import Any

from meshload.engine import Engine
from meshload.errors import is_usage
from meshload.loop import run_loop
from meshload.outcome import Outcome
from meshload.single import Ready, measured_s, prepared
from meshload.spec import RunSpec
from splitmesh.errors import MeshError

_REPORT_BYTES = 1 << 20


async def serve() -> None:
    lines = await _input()
    asked = await _next(lines)
    try:
        async with prepared(RunSpec.from_document(asked["spec"]), asked["part"]) as ready:
            _say({"ready": {"target": ready.target.describe(), "payload": ready.payloads.note}})
            await _run(ready, lines)
    except MeshError as exc:
        _say({"failed": {"message": exc.message, "advice": exc.advice, "usage": is_usage(exc)}})


async def _run(ready: Ready, lines: asyncio.StreamReader) -> None:
    start = await _next(lines)

    async def obey() -> None:
        await lines.readline()  # a word to stop, or the end of the input
        ready.engine.stop()

    ear = asyncio.get_running_loop().create_task(obey())
    outcome = await ready.run(start_ns=start.get("start_ns"), on_second=_report)
    _say({"outcome": outcome.to_document(brief=True)})
    ear.cancel()
    await asyncio.gather(ear, return_exceptions=True)


def _report(engine: Engine) -> None:
    """What is told each second is not lost if we are."""
    counts = Outcome(engine.take()).to_document(brief=True)
    _say({"counts": counts, "at_s": measured_s(engine), "in_flight": engine.in_flight})


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _next(lines: asyncio.StreamReader) -> dict[str, Any]:
    line = await lines.readline()
    if not line:
        raise SystemExit(0)
    said: dict[str, Any] = json.loads(line)
    return said


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with suppress(AttributeError, OSError):  # a report fits, so that the load does not wait for who reads it
        fcntl.fcntl(sys.stdout.fileno(), fcntl.F_SETPIPE_SZ, _REPORT_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us to stop, so that counts are kept
    run_loop(serve())
