"""Owns a run within one process: target, payloads and engine brought together, and let go of in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from meshload.engine import Engine
from meshload.outcome import Outcome
from meshload.payloads import load_payloads
from meshload.payloads.prepared import Prepared
from meshload.spec import RunSpec
from meshload.tally import rehearse
from meshload.target import Target
from meshload.targets import open_target

_COLLECT_S = 0.1
_COLLECT_ROWS = 2000
"""Counting takes some tenths of a millisecond, in which nothing can leave: so not more often than there is enough."""

Tick = dict[str, Any]
"""What a second was like: see `tick`."""


@dataclass
class Ready:
    """A run that could start now."""

    spec: RunSpec
    part: int
    target: Target
    payloads: Prepared
    engine: Engine

    async def run(self, *, start_ns: int | None = None, on_tick: Callable[[Tick], None] | None = None) -> Outcome:
        """Put the load on. `on_tick` is told of each second. `engine.stop` ends it early."""
        rehearse()
        gc.collect()
        gc.freeze()  # what is there stays: looking through it all would stop the run for milliseconds now and then
        watch = asyncio.get_running_loop().create_task(self._watch(on_tick))
        try:
            if self.spec.closed:
                tenants = _in_turn(self.spec.tenants)
                await self.engine.run_closed(tenants=tenants, deadline_ns=self.spec.deadline_ns, start_ns=start_ns)
            else:
                await self.engine.run_open(self.spec.schedule(self.part), start_ns=start_ns)
        finally:
            gc.unfreeze()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        engine = self.engine
        return Outcome(
            engine.tally,
            [engine.cpu_s / engine.wall_s],
            self.target.describe(),
            self.payloads.note,
            engine.last_trouble,
            engine.lost,
            engine.stopped,
        )

    async def _watch(self, on_tick: Callable[[Tick], None] | None) -> None:
        told = 0
        while True:
            await asyncio.sleep(_COLLECT_S)
            second = int(self.engine.now_ns() / 1e9)
            if second > told or self.engine.uncounted >= _COLLECT_ROWS:
                self.engine.collect()
            if on_tick and second > told:
                on_tick(tick(self.engine))
            told = second


@asynccontextmanager
async def prepared(spec: RunSpec, part: int = 0) -> AsyncIterator[Ready]:
    """Process `part` of a run, target open, payloads made. Raises LoadError, and what payloads are made of raises."""
    payloads = load_payloads(spec.payload, model=spec.model)
    target = open_target(spec.url, spec.options(part))
    try:
        await target.open()
        yield Ready(spec, part, target, payloads, Engine(target, payloads, spec.limits(part), traced=spec.traced))
    finally:
        await target.close()


def tick(engine: Engine) -> Tick:
    """How far the run is: seconds (below 0: warming up), counts until now, quantiles of the last whole second."""
    tally = engine.tally
    at_s = engine.now_ns() / 1e9 - engine.limits.warmup_s
    last = tally.second_latency.get(int(at_s) - 1)
    completed = tally.column("completed")
    return {
        "at_s": at_s,
        "last_rps": int(completed[int(at_s) - 1]) if 1 <= at_s <= len(completed) else 0,
        "p50_ms": last.quantile_ms(0.5) if last else None,
        "p99_ms": last.quantile_ms(0.99) if last else None,
        "ok": tally.count("ok"),
        "failed": sum(tally.count(name) for name in ("refused", "error", "timeout")),
        "in_flight": engine.in_flight,
    }


def _in_turn(tenants: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
    """Tenants in an order that repeats their shares, to about a twentieth."""
    if not tenants:
        return ("",)
    least = min(share for _, share in tenants)
    left = [(name, max(1, round(share / least))) for name, share in tenants]
    order: list[str] = []
    for turn in range(max(count for _, count in left)):
        order += [name for name, count in left if turn < count]
    return tuple(order)
