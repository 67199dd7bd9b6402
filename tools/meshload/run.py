"""Owns a whole run: in this process where one is asked for, else in children whose counts are added up.

All processes begin at the same moment; each takes its part of one schedule, so that together they send what one would
have sent. `stop` ends a run early and keeps what was counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any

from meshload.engine import Engine
from meshload.errors import LoadError
from meshload.outcome import Outcome, total
from meshload.single import Tick, prepared
from meshload.spec import RunSpec
from splitmesh.errors import MeshError

_HEAD_START_NS = 100_000_000
_LINE_BYTES = 1 << 26
_STOP_S = 5.0

OnReady = Callable[[str, str], None]
"""Takes how the target and the payloads describe themselves, once both are ready."""


class Run:
    """One run of `spec`."""

    def __init__(
        self, spec: RunSpec, *, on_ready: OnReady | None = None, on_tick: Callable[[Tick], None] | None = None
    ) -> None:
        self.spec = spec
        self._on_ready, self._on_tick = on_ready, on_tick
        self._engine: Engine | None = None
        self._children: list[Process] = []
        self._stopped = False
        self._ticks: dict[int, Tick] = {}

    async def run(self) -> Outcome:
        """Raises MeshError if the run can't begin, or a process of it dies."""
        if self.spec.processes == 1:
            return await self._here()
        try:
            return await self._in_children()
        finally:
            await self._end_children()

    def stop(self) -> None:
        """End it soon; `run` returns what was counted until then."""
        self._stopped = True
        if self._engine:
            self._engine.stop()
        for child in self._children:
            _tell(child, {"stop": True})

    async def _here(self) -> Outcome:
        async with prepared(self.spec) as ready:
            self._engine = ready.engine
            if self._stopped:
                ready.engine.stop()
            if self._on_ready:
                self._on_ready(ready.target.describe(), ready.payloads.note)
            return await ready.run(on_tick=self._on_tick)

    async def _in_children(self) -> Outcome:
        for part in range(self.spec.processes):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "meshload.child", stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES
            )
            self._children.append(child)
            _tell(child, {"spec": self.spec.to_document(), "part": part})
        ready = await asyncio.gather(*(self._next(child, "ready") for child in self._children))
        if self._on_ready:
            self._on_ready(ready[0]["target"], ready[0]["payload"])
        start_ns = time.monotonic_ns() + _HEAD_START_NS
        for child in self._children:
            _tell(child, {"start_ns": start_ns})
        if self._stopped:
            self.stop()
        outcomes = await asyncio.gather(*(self._follow(n, child) for n, child in enumerate(self._children)))
        return total(outcomes)

    async def _follow(self, number: int, child: Process) -> Outcome:
        while True:
            said = await _read(child)
            if "tick" in said:
                self._tick(number, said["tick"])
            elif "outcome" in said:
                return Outcome.from_document(said["outcome"])
            else:
                raise _failure(said)

    async def _next(self, child: Process, key: str) -> dict[str, Any]:
        said = await _read(child)
        if key not in said:
            raise _failure(said)
        found: dict[str, Any] = said[key]
        return found

    def _tick(self, number: int, tick: Tick) -> None:
        """Tell of a second once all processes have."""
        self._ticks[number] = tick
        if self._on_tick and len(self._ticks) == len(self._children):
            self._on_tick(_added(list(self._ticks.values())))
            self._ticks.clear()

    async def _end_children(self) -> None:
        for child in self._children:
            if child.stdin:
                child.stdin.close()  # a child ends when its input does
        for child in self._children:
            try:
                async with asyncio.timeout(_STOP_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()


def _tell(child: Process, message: dict[str, Any]) -> None:
    if child.stdin and not child.stdin.is_closing():
        child.stdin.write(json.dumps(message).encode() + b"\n")


async def _read(child: Process) -> dict[str, Any]:
    line = await child.stdout.readline() if child.stdout else b""
    if not line:
        raise MeshError(f"a process of the run ended by itself, status {await child.wait()}", advice="see above")
    said: dict[str, Any] = json.loads(line)
    return said


def _failure(said: dict[str, Any]) -> MeshError:
    found = said["failed"]
    kind = LoadError if found["usage"] else MeshError
    return kind(found["message"], advice=found["advice"])


def _added(ticks: list[Tick]) -> Tick:
    """Counts add up; of quantiles the largest stands for all."""
    made: Tick = {"at_s": min(tick["at_s"] for tick in ticks)}
    for key in ("last_rps", "ok", "failed", "in_flight"):
        made[key] = sum(tick[key] for tick in ticks)
    for key in ("p50_ms", "p99_ms"):
        made[key] = max((tick[key] for tick in ticks if tick[key] is not None), default=None)
    return made
