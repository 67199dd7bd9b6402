"""Owns one simulated run of many edges, which share uplinks in groups and all of them one pool of workers.

Each edge has its own policy, world, device, camera, luck and ledger. Edges differ by their luck, by the moment at
which their camera begins, and by the place in the trace at which their link does. Member 0 is what an edge on its
own is: a fleet of one is `sim.run.simulate`.

A *sample* simulates some of the edges, with all that share their uplinks, over as many times fewer workers. It rests
on each request going to the better of two workers drawn by lot: what reaches one worker is then a mix of many edges'
requests, and depends on edges per worker alone. Among few workers two lots see more of the pool than among many, and
what an edge sends with every frame comes too evenly. So a sample keeps `FEWEST_WORKERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitmesh.errors import SettingsError
from splitmesh.frames.ledger import LedgerError
from splitmesh.policy.baselines import make_policy
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.draws import draw
from splitmesh.sim.edge import Edge
from splitmesh.sim.engine import Engine
from splitmesh.sim.fleet_result import FleetResult, Tally, fleet_figures
from splitmesh.sim.path import Uplink
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.run import DRAIN_NS
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.workers import Pool

FEWEST_WORKERS = 5
"""Of a sample: utilities of 200 edges were within 1 % of the whole's with 5 workers, 11 % off with one."""
_SLICES = 200
"""Times that progress is told."""
_LINK_SEEDS = 1_000_003


@dataclass(frozen=True, slots=True)
class Fleet:
    """Raises SettingsError for what can't be."""

    edges: int
    per_uplink: int = 1
    """Edges that share one uplink; the last group may be smaller."""

    def __post_init__(self) -> None:
        for name in ("edges", "per_uplink"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be 1 at least, not {getattr(self, name)}", key=name)

    @property
    def uplinks(self) -> int:
        return math.ceil(self.edges / self.per_uplink)

    def sample(self, size: int, scenario: Scenario) -> tuple[Fleet, Scenario]:
        """`size` edges, in whole groups, and the pool that is theirs. Raises SettingsError if that is none."""
        if size == self.edges:
            return self, scenario
        workers = scenario.workers * size / self.edges
        unit = math.lcm(self.edges // math.gcd(self.edges, scenario.workers), self.per_uplink)
        least = unit * math.ceil(FEWEST_WORKERS * self.edges / (scenario.workers * unit))
        if not least <= size < self.edges or size % unit:
            reason = (
                f"{size} of {self.edges} edges do not stand for all: that takes whole uplinks, and whole workers, "
            )
            reason += f"{FEWEST_WORKERS} at least"
            fits = f"a multiple of {unit} from {least} on" if least < self.edges else "no sample: this fleet is small"
            raise SettingsError(reason, key="sample", advice=f"take {fits}")
        if scenario.losses:
            raise SettingsError("a sample's workers stand for many: none of them can be lost", key="sample")
        return replace(self, edges=size), replace(scenario, workers=round(workers))


def simulate_fleet(
    plan: SimPlan,
    policy: str,
    traces: Sequence[LinkTrace],
    scenario: Scenario,
    fleet: Fleet,
    *,
    seed: int,
    sample: int | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> FleetResult:
    """Run `policy` on every edge. traces: of the uplinks, in turn; each link begins at another place of its trace.

    scenario: `workers` and `slots` are the pool's, everything else is each edge's. sample: so many edges stand for
    all of them; None: all are simulated. progress: told the share that is done, [0, 1].
    Raises SettingsError for a policy or a sample that there is not, LedgerError if a frame of any edge is not settled
    exactly once.
    """
    if not traces:
        raise SettingsError("a fleet needs a link", key="links")
    whole = fleet.edges
    if sample is not None:
        fleet, scenario = fleet.sample(sample, scenario)
    engine = Engine()
    pool = Pool(engine, plan, scenario)
    tallies = [Tally() for _ in range(fleet.edges)]
    phases = _phases(scenario, fleet, seed=seed)
    uplinks = [_uplink(traces, scenario, fleet, group, seed=seed) for group in range(fleet.uplinks)]
    edges = [
        Edge(
            engine,
            plan,
            make_policy(policy, plan.points),
            scenario,
            draw(scenario, seed, member=number),
            uplink=uplinks[number // fleet.per_uplink],
            pool=pool,
            settle=tally.add,
            number=number,
            phase_ns=phases[number],
        )
        for number, tally in enumerate(tallies)
    ]
    if any(edge.door is not None for edge in edges):
        pool.start()
    for edge in edges:
        edge.start()
    span_ns = scenario.frames * scenario.period_ns
    _run(engine, span_ns + max(phases) + round(scenario.deadline_ms * 1e6) + DRAIN_NS, progress)
    for number, (edge, tally) in enumerate(zip(edges, tallies, strict=True)):
        if not edge.ledger.conserved or len(tally.latencies_ms) != scenario.frames:
            raise LedgerError(f"frames of edge {number} were lost: {edge.ledger!r}")
    figures = fleet_figures(
        edges, tallies, pool, per_uplink=fleet.per_uplink, slots=scenario.slots, span_s=span_ns / 1e9
    )
    return FleetResult(whole / fleet.edges, *figures, scenario.frames * fleet.edges, engine.events)


def _phases(scenario: Scenario, fleet: Fleet, *, seed: int) -> list[int]:
    """When each edge captures its first frame, ns: anywhere in a frame period, but member 0 at once."""
    random = np.random.Generator(np.random.PCG64([seed, 0xF1EE]))
    return [0, *(random.random(fleet.edges - 1) * scenario.period_ns).astype(int).tolist()]


def _uplink(traces: Sequence[LinkTrace], scenario: Scenario, fleet: Fleet, group: int, *, seed: int) -> Uplink:
    """The links of a trace that loops begin evenly spread over it."""
    trace = traces[group % len(traces)]
    begin_s = scenario.trace_start_s
    if trace.loop and len(trace.steps) > 1:
        begin_s += trace.period_s * group / fleet.uplinks
    return Uplink(trace, scenario.outages, start_s=begin_s, seed=seed + _LINK_SEEDS * group)


def _run(engine: Engine, until_ns: int, progress: Callable[[float], None]) -> None:
    for done in range(1, _SLICES + 1):
        engine.run(until_ns * done // _SLICES)
        progress(done / _SLICES)
