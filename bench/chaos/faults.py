"""Owns the faults: what each does to a mesh, for how long, and when it is over. Judges nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.mesh import READY_S, Mesh
from bench.chaos.verdict import OFFLOADED

_SLICE_S, _SHARE = 0.1, 0.1
"""A slow worker runs for that share of each slice of time."""
_TURNED_AWAY = ("refused (draining)", "nobody listens")
_JUMPS_H = (5.0, -7.0, 30.0, -50.0, 0.5, -0.5)


@dataclass(frozen=True, slots=True)
class Struck:
    """When a fault began and when it was over (monotonic ns), and what is to be noted of it."""

    began_ns: int
    ended_ns: int
    notes: dict[str, Any] = field(default_factory=dict)


Strike = Callable[[Mesh, random.Random, float], Awaitable[Struck]]
"""Strike a mesh for about so many seconds, drawing what is left to chance."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`hold_s`: least and most that it lasts, in `make chaos`; `short_s`: in the short form."""

    name: str
    about: str
    strike: Strike
    hold_s: tuple[float, float]
    short_s: float
    workers: int = 1
    needs: str = ""
    """What of the machine it can't do without: "disk", "clock"."""


async def kill_worker(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """SIGKILL in the middle of a request; another is started `hold_s` later. Over when that one is ready."""
    await mesh.spy.amid_a_request(rng)
    began_ns = time.monotonic_ns()
    await mesh.workers["w-1"].kill()
    await asyncio.sleep(hold_s)
    await mesh.start_worker("w-1")
    return Struck(began_ns, time.monotonic_ns())


async def stop_worker(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """SIGSTOP: it is there and says nothing. Over at SIGCONT."""
    await mesh.spy.amid_a_request(rng)
    process = _process(mesh, "w-1")
    began_ns = time.monotonic_ns()
    os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(hold_s)
    finally:
        os.kill(process, signal.SIGCONT)
    return Struck(began_ns, time.monotonic_ns())


async def slow_worker(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """It gets a tenth of the time, in slices. Over when it runs freely again."""
    process = _process(mesh, "w-1")
    began_ns = time.monotonic_ns()
    until_s = time.monotonic() + hold_s
    try:
        while time.monotonic() < until_s:
            os.kill(process, signal.SIGSTOP)
            await asyncio.sleep(_SLICE_S * (1 - _SHARE))
            os.kill(process, signal.SIGCONT)
            await asyncio.sleep(_SLICE_S * _SHARE)
    finally:
        os.kill(process, signal.SIGCONT)
    return Struck(began_ns, time.monotonic_ns())


async def restart_broker(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """SIGKILL, and the same port again `hold_s` later. Over when it accepts."""
    await mesh.spy.amid_a_request(rng)
    began_ns = time.monotonic_ns()
    mesh.broker.kill()
    await asyncio.sleep(hold_s)
    await mesh.broker.start()
    return Struck(began_ns, time.monotonic_ns())


async def partition(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """Nothing passes between edge and broker, and nobody is told. Over when bytes pass again."""
    assert mesh.relay is not None  # noqa: S101 - started
    await mesh.spy.amid_a_request(rng)
    began_ns = time.monotonic_ns()
    mesh.relay.cut()
    await asyncio.sleep(hold_s)
    mesh.relay.mend()
    return Struck(began_ns, time.monotonic_ns())


async def garbage(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """A worker that lies joins the pool. Over when it is killed."""
    liar = await mesh.start_liar(rng.randrange(2**31))
    began_ns = time.monotonic_ns()
    try:
        await asyncio.sleep(hold_s)
    finally:
        await liar.kill()
    ended_ns = time.monotonic_ns()
    meanwhile = [seen.record for seen in mesh.between(began_ns, ended_ns)]
    if believed := [record.seq for record in meanwhile if record.worker == "liar"]:
        mesh.faults.append(f"lies were believed: frames {believed[:10]}")
    lied_to = sum(record.point.startswith("split/") and record.outcome not in OFFLOADED for record in meanwhile)
    return Struck(began_ns, ended_ns, {"lied_to": lied_to})


async def jump_clock(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """The wall clock of edge and worker jumps by hours, and stays there. Over at once."""
    assert mesh.setup.clock is not None  # noqa: S101 - the fault needs one
    shift_s = rng.choice(_JUMPS_H) * 3600 + rng.uniform(-600, 600)
    began_ns = time.monotonic_ns()
    mesh.setup.clock.jump_to(shift_s)
    return Struck(began_ns, began_ns, {"shift_s": round(shift_s)})


async def fill_worker_disk(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """No byte is left where the worker writes its spans and temporary files. Over when there is room."""
    assert mesh.setup.worker_disk is not None  # noqa: S101 - the fault needs one
    began_ns = time.monotonic_ns()
    mesh.setup.worker_disk.fill()
    try:
        await asyncio.sleep(hold_s)
    finally:
        mesh.setup.worker_disk.free()
    return Struck(began_ns, time.monotonic_ns())


async def fill_edge_disk(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """No byte is left where the edge writes its results. Over when there is room."""
    assert mesh.setup.edge_disk is not None  # noqa: S101 - the fault needs one
    began_ns = time.monotonic_ns()
    mesh.setup.edge_disk.fill()
    try:
        await asyncio.sleep(hold_s)
    finally:
        mesh.setup.edge_disk.free()
    return Struck(began_ns, time.monotonic_ns())


async def rolling_restart(mesh: Mesh, rng: random.Random, hold_s: float) -> Struck:
    """Every worker in turn: SIGTERM, its orderly end, a new one, ready. Over when the last is. No frame may be turned
    away.
    """
    began_ns = time.monotonic_ns()
    for name in sorted(mesh.workers):
        leaving = mesh.workers[name]
        leaving.send(signal.SIGTERM)
        status = await asyncio.wait_for(leaving.wait(), READY_S)
        if status:
            mesh.faults.append(f"{name} ended with {leaving.ending()} when asked to drain")
        await mesh.start_worker(name)
        await asyncio.sleep(rng.uniform(0, hold_s))
    ended_ns = time.monotonic_ns()
    meanwhile = [seen.record for seen in mesh.between(began_ns, ended_ns)]
    turned_away = [record.seq for record in meanwhile if any(sign in record.note for sign in _TURNED_AWAY)]
    if turned_away:
        mesh.faults.append(f"turned away by a worker that drained: frames {turned_away[:10]}")
    return Struck(began_ns, ended_ns, {"turned_away": len(turned_away)})


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("kill", "worker killed mid-request, started anew", kill_worker, (0.5, 3.0), 0.5),
        Fault("stop", "worker stopped and continued (gray failure)", stop_worker, (1.0, 5.0), 2.0),
        Fault("slow", "worker 10× slow", slow_worker, (2.0, 5.0), 2.0),
        Fault("broker", "broker killed, started anew", restart_broker, (0.0, 3.0), 0.5),
        Fault("partition", "nothing passes between edge and broker", partition, (30.0, 30.0), 3.0),
        Fault("garbage", "a worker that answers garbage joins", garbage, (2.0, 5.0), 2.0),
        Fault("clock", "wall clock jumps by hours, both ways", jump_clock, (0.0, 0.0), 0.0, needs="clock"),
        Fault("worker-disk", "disk full on the worker", fill_worker_disk, (2.0, 5.0), 2.0, needs="disk"),
        Fault("rolling", "every worker restarted in turn", rolling_restart, (0.5, 2.0), 0.5, workers=2),
        Fault("edge-disk", "disk full under the edge's results", fill_edge_disk, (2.0, 5.0), 2.0, needs="disk"),
    )
}


def _process(mesh: Mesh, name: str) -> int:
    process = mesh.workers[name].pid
    assert process is not None  # noqa: S101 - started
    return process
