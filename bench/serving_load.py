"""Closed and open loops of requests against one system, in a process of its own.

`python -m bench.serving_load` reads a JSON object per line (see `measure`) and writes one back: latencies in ms.
Open loops send at the times a Poisson process has drawn, whether or not replies have come, and count latency from
those times: a server that stalls the sender hides nothing (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.serving_callers import WHOLE_BUDGET_US, Caller, open_caller

from splitmesh.settings.process import settle_memory

_GRACE_S = 30.0


def write_bodies(path: Path, bodies: list[bytes]) -> None:
    path.write_bytes(b"".join(len(body).to_bytes(4, "little") + body for body in bodies))


def read_bodies(path: Path) -> list[bytes]:
    raw, at, bodies = path.read_bytes(), 0, []
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        bodies.append(raw[at + 4 : end])
        at = end
    return bodies


class Tally:
    """What came of the requests: those that count, and how many were answered at all."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.latency_ms: list[float] = []
        self.served = 0

    def add(self, end: str, latency_s: float, *, counts: bool) -> None:
        self.served += end == "ok"
        if counts:
            self.ends[end] += 1
            if end == "ok":
                self.latency_ms.append(latency_s * 1e3)


async def closed(caller: Caller, *, clients: int, warm_s: float, seconds: float) -> Tally:
    """`clients` that each send the next request when the last was answered. What is answered within `seconds` after
    `warm_s` counts.
    """
    begin_s = time.perf_counter() + warm_s
    end_s = begin_s + seconds
    tally = Tally()

    async def client(index: int) -> None:
        while (now_s := time.perf_counter()) < end_s:
            end = await caller.call(index)
            index += clients
            done_s = time.perf_counter()
            tally.add(end, done_s - now_s, counts=begin_s <= done_s <= end_s)

    await asyncio.gather(*(client(first) for first in range(clients)))
    return tally


async def opened(caller: Caller, *, rate: float, warm_s: float, seconds: float, seed: int, budget_us: int) -> Tally:
    """Requests at `rate` a second, exponentially spaced. Those of the first `warm_s` don't count."""
    luck, tally = random.Random(seed), Tally()
    tasks: set[asyncio.Task[None]] = set()
    began_s = due_s = time.perf_counter()

    async def one(index: int, due_s: float) -> None:
        end = await caller.call(index, budget_us)
        tally.add(end, time.perf_counter() - due_s, counts=due_s >= began_s + warm_s)

    index = 0
    while due_s < began_s + warm_s + seconds:
        due_s += luck.expovariate(rate)
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        task = asyncio.create_task(one(index, due_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        index += 1
    async with asyncio.timeout(_GRACE_S):
        await asyncio.gather(*tasks)
    return tally


async def measure(order: dict[str, Any]) -> dict[str, Any]:
    """One run. order: "caller" (see open_caller), "bodies" (a file), "warm_s", "seconds", and either "clients" or
    "rate" with "seed" and perhaps "budget_us". Or "together": several such orders, at the same time.
    """
    if "together" in order:
        return {"together": await asyncio.gather(*(measure(each) for each in order["together"]))}
    caller = await open_caller(order["caller"], read_bodies(Path(order["bodies"])))
    cpu_s = time.process_time()
    if "clients" in order:
        tally = await closed(caller, clients=order["clients"], warm_s=order["warm_s"], seconds=order["seconds"])
    else:
        tally = await opened(
            caller,
            rate=order["rate"],
            warm_s=order["warm_s"],
            seconds=order["seconds"],
            seed=order["seed"],
            budget_us=order.get("budget_us", WHOLE_BUDGET_US),
        )
    cpu_s = time.process_time() - cpu_s
    caller.close()
    return {
        "rps": len(tally.latency_ms) / order["seconds"],
        "seconds": order["seconds"],
        "ends": dict(tally.ends),
        "latency_ms": tally.latency_ms,
        "served": tally.served,
        "load_cpu_s": cpu_s,
    }


def main() -> int:
    settle_memory()
    for line in sys.stdin:
        print(json.dumps(asyncio.run(measure(json.loads(line)))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
