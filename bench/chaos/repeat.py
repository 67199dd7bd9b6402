"""Owns a campaign: strike, await recovery, look for every frame's line, strike again; then drain and recount."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.chaos.disk import small_disk
from bench.chaos.faults import FAULTS, Fault
from bench.chaos.mesh import DEADLINE_MS, Mesh, Setup
from bench.chaos.verdict import in_time, missing
from bench.chaos.wall_clock import build_wall_clock

from splitmesh.errors import MeshError
from splitmesh.frames.outcome import Outcome
from splitmesh.media.clip import write_test_clip
from splitmesh.models.registry import resolve_model
from splitmesh.plan.bundle.read import Bundle
from splitmesh.provision.plan import edge_plan

RECOVERY_LIMIT_S = 60.0
_LEAST_WINDOW_NS = 1_000_000_000
_MOMENT_S = 0.5
ENDS = ("edge", "worker")

Progress = Callable[[str], None]


@dataclass(slots=True)
class Repetition:
    """One strike. Times in seconds; `recovery_s` from the end of the fault, None: none within `RECOVERY_LIMIT_S`."""

    fault: str
    held_s: float = 0.0
    recovery_s: float | None = None
    frames: int = 0
    """Captured while the fault was there, or under way when it struck; at least a second's."""
    in_time: float | None = None
    """Share of these answered in time, by whomever."""
    outcomes: dict[str, int] = field(default_factory=dict)
    lost_lines: int = 0
    """Frames without a line; allowed only where the disk under the lines was full."""
    load: float = 0.0
    """Processes that wanted to run here in the minute before; where they are more than cores, all takes longer."""
    notes: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Frames that nothing answered."""
        return sum(self.outcomes.get(outcome.value, 0) for outcome in (Outcome.SHED, Outcome.EXPIRED))


@dataclass(slots=True)
class Campaign:
    """Strikes on one mesh, and what its edge counted when it was drained."""

    repetitions: list[Repetition] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Fault → what this machine lacks for it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def strike_once(mesh: Mesh, fault: Fault, rng: random.Random, hold_s: float) -> Repetition:
    """One strike at a drawn moment, its recovery, and a look at the line of every frame up to it."""
    made = Repetition(fault.name)
    for number in range(len(mesh.workers) + 1, fault.workers + 1):
        await mesh.start_worker(f"w-{number}")
    before = len(mesh.faults)
    checked_seq = max((seen.record.seq for seen in mesh.tail.read()), default=0)
    await asyncio.sleep(rng.uniform(0, _MOMENT_S))
    struck = await fault.strike(mesh, rng, hold_s)
    made.load = os.getloadavg()[0]
    made.held_s, made.notes = (struck.ended_ns - struck.began_ns) / 1e9, struck.notes
    try:
        first = await mesh.recovery(struck.ended_ns, RECOVERY_LIMIT_S)
    except TimeoutError:
        return made
    made.recovery_s = (first.captured_ns - struck.ended_ns) / 1e9

    def gone() -> list[int]:
        return missing((seen.record.seq for seen in mesh.tail.read()), checked_seq, first.record.seq)

    if fault.name == "edge-disk":
        made.lost_lines = len(gone())
    elif not await mesh.settled(lambda: not gone()):
        made.lost_lines = len(gone())
        made.faults.append(f"frames without a line: {gone()[:10]}")
    under_way_ns = struck.began_ns - DEADLINE_MS * 1_000_000
    window = mesh.between(under_way_ns, max(struck.ended_ns, struck.began_ns + _LEAST_WINDOW_NS))
    made.frames, made.in_time = len(window), in_time(window)
    made.outcomes = dict(Counter(seen.record.outcome.value for seen in window))
    made.faults += mesh.faults[before:]
    return made


async def campaign(
    setup: Setup, faults: Sequence[Fault], repetitions: int, *, short: bool, seed: int, progress: Progress
) -> Campaign:
    """Each of `faults` in turn on one mesh, `repetitions` times; then everything is drained and recounted."""
    found = Campaign()
    setup.out.mkdir(parents=True, exist_ok=True)
    setup = replace(setup, workers=min(fault.workers for fault in faults))
    rng = random.Random(seed)
    mesh = Mesh(setup)
    try:
        await mesh.start()
        for fault in faults:
            if lacking := _lacking(setup, fault):
                found.skipped[fault.name] = lacking
                continue
            for number in range(repetitions):
                made = await strike_once(mesh, fault, rng, fault.short_s if short else rng.uniform(*fault.hold_s))
                found.repetitions.append(made)
                progress(describe(made, number + 1, repetitions))
        found.counts = await mesh.finish()
    except (MeshError, TimeoutError) as exc:
        found.faults.append(f"the mesh broke down: {exc!r}")
    finally:
        await mesh.close()
    told = {fault for made in found.repetitions for fault in made.faults}
    found.faults += [fault for fault in mesh.faults if fault not in told]
    return found


def describe(made: Repetition, number: int, of: int) -> str:
    recovery = "none" if made.recovery_s is None else f"{made.recovery_s:.2f} s"
    share = "-" if made.in_time is None else f"{made.in_time:.0%}"
    line = f"{made.fault:<12} {number:>3}/{of}  held {made.held_s:5.1f} s  recovery {recovery:>7}  in time {share:>4}"
    return "  ".join([f"{line} of {made.frames}", *made.faults])


def plan_for(clip: Path) -> Bundle:
    """The plan that ships with the default model, with this machine's times."""
    return edge_plan(
        resolve_model("coco-ssdlite"), str(clip), threads=1, providers=("cpu",), progress=lambda *_: None
    )


def run_campaign(
    out: Path,
    names: Sequence[str],
    repetitions: int,
    *,
    short: bool = False,
    seed: int = 0,
    source: Path | None = None,
    policy: str = "",
    progress: Progress = print,
) -> Campaign:
    """Faults `names` on one mesh below `out`, with a clock and two small disks of its own where they need them and
    this machine allows.
    """
    out.mkdir(parents=True, exist_ok=True)
    faults = [FAULTS[name] for name in names]
    clip = source if source is not None else write_test_clip(out / "shapes.mp4")
    bundle = plan_for(clip)
    setup = Setup(clip, bundle, out, policy=policy)
    needs = {fault.needs for fault in faults}
    with contextlib.ExitStack() as closing:
        if "clock" in needs and (clock := build_wall_clock(out)) is not None:
            closing.callback(clock.close)
            setup = replace(setup, clock=clock)
        if "disk" in needs:
            edge_disk, worker_disk = (closing.enter_context(small_disk(out / f"disk-{end}")) for end in ENDS)
            setup = replace(setup, edge_disk=edge_disk, worker_disk=worker_disk)
        return asyncio.run(campaign(setup, faults, repetitions, short=short, seed=seed, progress=progress))


def _lacking(setup: Setup, fault: Fault) -> str:
    if fault.needs == "disk" and (setup.edge_disk is None or setup.worker_disk is None):
        return "may not mount a small disk (needs root)"
    if fault.needs == "clock" and setup.clock is None:
        return "no library can be preloaded (needs Linux and a C compiler)"
    return ""
