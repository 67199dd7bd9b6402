"""Owns a whole run: in this process where one is asked for, else in children whose counts are added up.

All processes begin at the same moment; each takes its part of one schedule, so that together they send what one would
have sent. Each reports every second what it counted, so that no more is lost with it. `stop` ends a run early and
keeps what was counted.
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
from meshload.outcome import Death, Outcome, total
from meshload.single import Tick, measured_s, prepared, tick_of
from meshload.spec import RunSpec
from meshload.tally import Tally
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
        self._ended: set[int] = set()

    async def run(self) -> Outcome:
        """Raises MeshError if the run can't begin. What a process that dies had reported is in the outcome, and that
        it died."""
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
            on_tick = self._on_tick
            return await ready.run(on_second=(lambda engine: on_tick(_tick(engine))) if on_tick else None)

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
        kept = [Outcome(Tally(0.0), described=said["target"], payload=said["payload"]) for said in ready]
        await asyncio.gather(*(self._follow(n, child, kept[n]) for n, child in enumerate(self._children)))
        return total(kept)

    async def _follow(self, number: int, child: Process, kept: Outcome) -> None:
        """Add to `kept` what it counts, until its end."""
        at_s, in_flight = 0.0, 0
        while (said := await _read(child)) is not None:
            if "counts" in said:
                kept.add(Outcome.from_document(said["counts"]))
                at_s, in_flight = said["at_s"], said["in_flight"]
                self._tick(number, tick_of(kept.tally, at_s=at_s, in_flight=in_flight))
            elif "outcome" in said:
                last = Outcome.from_document(said["outcome"])
                kept.add(last)
                kept.tally.measured_s = last.tally.measured_s
                self._gone(number)
                return
            else:
                raise _failure(said)
        status = await child.wait()
        kept.tally.measured_s = min(max(at_s, 0.0), self.spec.measured_s)
        kept.died.append(Death(number + 1, len(self._children), status, at_s, in_flight))
        self._gone(number)

    async def _next(self, child: Process, key: str) -> dict[str, Any]:
        said = await _read(child)
        if said is None:
            raise MeshError(f"a process of the run ended by itself, status {await child.wait()}", advice="see above")
        if key not in said:
            raise _failure(said)
        found: dict[str, Any] = said[key]
        return found

    def _tick(self, number: int, tick: Tick) -> None:
        """Tell of a second once all processes that go on have."""
        self._ticks[number] = tick
        if self._on_tick and len(self._ticks) + len(self._ended) >= len(self._children):
            self._on_tick(_added(list(self._ticks.values())))
            self._ticks.clear()

    def _gone(self, number: int) -> None:
        self._ended.add(number)
        self._ticks.pop(number, None)

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


async def _read(child: Process) -> dict[str, Any] | None:
    """What it says next; None: it has gone, perhaps in the middle of a line."""
    line = await child.stdout.readline() if child.stdout else b""
    if not line.endswith(b"\n"):
        return None
    said: dict[str, Any] = json.loads(line)
    return said


def _tick(engine: Engine) -> Tick:
    return tick_of(engine.tally, at_s=measured_s(engine), in_flight=engine.in_flight)


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
