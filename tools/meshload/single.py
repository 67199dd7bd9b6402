"""Owns a run within one process: target, payloads and engine brought together, and let go of in order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from meshload.arrivals import Arrival
from meshload.engine import Engine
from meshload.outcome import Outcome
from meshload.payloads import load_payloads
from meshload.payloads.prepared import Prepared
from meshload.spec import RunSpec
from meshload.tally import Tally, rehearse
from meshload.target import Target
from meshload.targets import open_target

_COLLECT_S = 0.1
_COLLECT_ROWS = 2000
"""Counting takes some tenths of a millisecond, in which nothing can leave: so not more often than there is enough."""
_LEAST_S = 0.01
"""A process that had nothing to send was not there for long enough to tell what share of a core it used."""

Tick = dict[str, Any]
"""What a second was like: see `tick_of`."""


@dataclass
class Ready:
    """A run that could start now."""

    spec: RunSpec
    target: Target
    payloads: Prepared
    engine: Engine
    arrivals: Iterator[Arrival] | None
    """None: closed loop."""

    async def run(self, *, start_ns: int | None = None, on_second: Callable[[Engine], None] | None = None) -> Outcome:
        """Put the load on. `on_second` is called after each second. `engine.stop` ends it early.

        What `on_second` has taken from the engine is not in the outcome.
        """
        rehearse()
        gc.collect()
        gc.freeze()  # what is there stays: looking through it all would stop the run for milliseconds now and then
        watch = asyncio.get_running_loop().create_task(self._watch(on_second))
        try:
            if self.arrivals is None:
                tenants = _in_turn(self.spec.tenants)
                await self.engine.run_closed(tenants=tenants, deadline_ns=self.spec.deadline_ns, start_ns=start_ns)
            else:
                await self.engine.run_open(self.arrivals, start_ns=start_ns)
        finally:
            gc.unfreeze()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        engine = self.engine
        return Outcome(
            engine.tally,
            [engine.cpu_s / engine.wall_s if engine.wall_s >= _LEAST_S else 0.0],
            self.target.describe(),
            self.payloads.note,
            engine.last_trouble,
            engine.lost,
            engine.stopped,
        )

    async def _watch(self, on_second: Callable[[Engine], None] | None) -> None:
        told = 0
        while True:
            await asyncio.sleep(_COLLECT_S)
            second = int(self.engine.now_ns() / 1e9)
            if second > told or self.engine.uncounted >= _COLLECT_ROWS:
                self.engine.collect()
            if on_second and second > told:
                on_second(self.engine)
            told = second


@asynccontextmanager
async def prepared(spec: RunSpec, part: int = 0) -> AsyncIterator[Ready]:
    """Process `part` of a run, target open, payloads made. Raises LoadError, and what payloads are made of raises."""
    replay = spec.replay
    if replay and replay.payloads != "given":
        payloads = Prepared((), note=replay.note)
    else:
        payloads = load_payloads(spec.payload, model=spec.model)
    arrivals = None if spec.closed else spec.schedule(part)
    target = open_target(spec.url, spec.options(part))
    try:
        await target.open()
        engine = Engine(target, payloads, spec.limits(part), traced=spec.traced)
        yield Ready(spec, target, payloads, engine, arrivals)
    finally:
        await target.close()


def measured_s(engine: Engine) -> float:
    """How far the run is; below 0: it warms up."""
    return engine.now_ns() / 1e9 - engine.limits.warmup_s


def tick_of(tally: Tally, *, at_s: float, in_flight: int) -> Tick:
    """What a second was like: counts until then, quantiles of the last whole second. at_s: into the measured time."""
    last = tally.second_latency.get(int(at_s) - 1)
    completed = tally.column("completed")
    return {
        "at_s": at_s,
        "last_rps": int(completed[int(at_s) - 1]) if 1 <= at_s <= len(completed) else 0,
        "p50_ms": last.quantile_ms(0.5) if last else None,
        "p99_ms": last.quantile_ms(0.99) if last else None,
        "ok": tally.count("ok"),
        "failed": sum(tally.count(name) for name in ("refused", "error", "timeout")),
        "in_flight": in_flight,
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
