"""Owns the inside of one process of a run with several: lines of JSON in, lines of JSON out. Ends with its input.

In: {"spec", "part"}, then {"start_ns"}, then perhaps {"stop"}. Out: {"ready"}, {"tick"}…, {"outcome"}; or {"failed"}.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from meshload.errors import LoadError
from meshload.loop import run_loop
from meshload.single import Ready, prepared
from meshload.spec import RunSpec
from splitmesh.errors import MeshError


async def serve() -> None:
    lines = await _input()
    asked = await _next(lines)
    try:
        async with prepared(RunSpec.from_document(asked["spec"]), asked["part"]) as ready:
            _say({"ready": {"target": ready.target.describe(), "payload": ready.payloads.note}})
            await _run(ready, lines)
    except MeshError as exc:
        _say({"failed": {"message": exc.message, "advice": exc.advice, "usage": type(exc) is LoadError}})


async def _run(ready: Ready, lines: asyncio.StreamReader) -> None:
    start = await _next(lines)

    async def obey() -> None:
        await lines.readline()  # a word to stop, or the end of the input
        ready.engine.stop()

    ear = asyncio.get_running_loop().create_task(obey())
    outcome = await ready.run(start_ns=start.get("start_ns"), on_tick=lambda tick: _say({"tick": tick}))
    _say({"outcome": outcome.to_document()})
    ear.cancel()
    await asyncio.gather(ear, return_exceptions=True)


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells us to stop, so that counts are kept
    run_loop(serve())
