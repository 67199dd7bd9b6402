"""Owns one simulated run: an edge and its workers around the production policy code, on virtual time.

A run is a pure function of plan, policy, trace, scenario and seed. It reads no clock and knows no process.
"""

from __future__ import annotations

from splitmesh.frames.ledger import LedgerError
from splitmesh.policy.base import Policy
from splitmesh.policy.baselines import make_policy
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.draws import draw
from splitmesh.sim.edge import Edge
from splitmesh.sim.engine import Engine
from splitmesh.sim.path import Uplink
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import RunResult, Settled
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.workers import Pool

DRAIN_NS = 3_000_000_000
"""Beyond the last deadline: frames with nothing to track from are waited for two seconds."""


def simulate(plan: SimPlan, policy: str | Policy, trace: LinkTrace, scenario: Scenario, *, seed: int) -> RunResult:
    """Run `policy` (a name for `make_policy`, or one that has decided nothing yet) over `trace`.

    Raises SettingsError for a policy that there is not, LedgerError if a frame is not settled exactly once.
    """
    chosen = make_policy(policy, plan.points) if isinstance(policy, str) else policy
    engine = Engine()
    uplink = Uplink(trace, scenario.outages, start_s=scenario.trace_start_s, seed=seed)
    pool = Pool(engine, plan, scenario)
    settled: dict[int, Settled] = {}
    draws = draw(scenario, seed)
    edge = Edge(engine, plan, chosen, scenario, draws, uplink=uplink, pool=pool, settle=settled.__setitem__)
    if edge.door is not None:
        pool.start()
    edge.start()
    engine.run(scenario.frames * scenario.period_ns + round(scenario.deadline_ms * 1e6) + DRAIN_NS)
    if not edge.ledger.conserved or len(settled) != scenario.frames:
        raise LedgerError(f"frames were lost: {edge.ledger!r}")
    frames = tuple(settled[seq] for seq in range(scenario.frames))
    uplink_bytes = edge.door.uplink_bytes if edge.door else 0
    span_s = scenario.frames * scenario.period_ns / 1e9
    return RunResult(frames, uplink_bytes, edge.ledger.counts(), span_s, engine.events, edge.device_ms)
