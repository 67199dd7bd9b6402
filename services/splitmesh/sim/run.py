"""Owns one simulated run: an edge and its workers around the production policy code, on virtual time.

A run is a pure function of plan, policy, trace, scenario and seed. It reads no clock and knows no process.
"""

from __future__ import annotations

from splitmesh.frames.ledger import Ledger, LedgerError
from splitmesh.frames.outcome import Outcome
from splitmesh.policy.base import Learner, Policy
from splitmesh.policy.baselines import LocalOnly, make_policy
from splitmesh.policy.decision import Observation
from splitmesh.policy.point import Place
from splitmesh.policy.world import World
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.device import Device
from splitmesh.sim.door import Door
from splitmesh.sim.draws import Draws, draw
from splitmesh.sim.engine import Engine
from splitmesh.sim.frame import Frame
from splitmesh.sim.observer import Observer
from splitmesh.sim.offers import Offers
from splitmesh.sim.pipeline import Pipeline
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import RunResult, Settled
from splitmesh.sim.scenario import Scenario

_DRAIN_NS = 3_000_000_000
"""Beyond the last deadline: frames with nothing to track from are waited for two seconds."""


def simulate(plan: SimPlan, policy: str | Policy, trace: LinkTrace, scenario: Scenario, *, seed: int) -> RunResult:
    """Run `policy` (a name for `make_policy`, or one that has decided nothing yet) over `trace`.

    Raises SettingsError for a policy that there is not, LedgerError if a frame is not settled exactly once.
    """
    world = World(plan.points, track_kappa=plan.track_kappa)
    chosen = make_policy(policy, plan.points) if isinstance(policy, str) else policy
    return _Edge(plan, chosen, world, trace, scenario, seed).run()


class _Edge:
    """Captures, decides and settles every frame of one run."""

    def __init__(
        self, plan: SimPlan, policy: Policy, world: World, trace: LinkTrace, scenario: Scenario, seed: int
    ) -> None:
        self._scenario = scenario
        self._policy = policy
        self._learner = policy if isinstance(policy, Learner) else None
        self._world = world
        self._draws: Draws = draw(scenario, seed)
        self._engine = engine = Engine()
        self._device = Device(engine, slowdown=scenario.edge_slowdown)
        kappa = plan.track_kappa if scenario.track_kappa is None else scenario.track_kappa
        self._observer = Observer(world, self._draws, period_ns=scenario.period_ns, kappa=kappa)
        self._door = None
        if not isinstance(policy, LocalOnly):
            self._door = Door(engine, world, plan, trace, scenario, self._draws, seed=seed)
        self._pipeline = Pipeline(
            engine,
            world,
            plan,
            scenario,
            self._draws,
            device=self._device,
            offers=Offers(engine, self._door, world, plan, self._draws),
            observer=self._observer,
            settle=self._settle,
        )
        self._ledger = Ledger()
        self._settled: list[Settled | None] = [None] * scenario.frames

    def run(self) -> RunResult:
        engine, scenario = self._engine, self._scenario
        self._capture(0)
        engine.run(scenario.frames * scenario.period_ns + round(scenario.deadline_ms * 1e6) + _DRAIN_NS)
        frames = tuple(each for each in self._settled if each is not None)
        if not self._ledger.conserved or len(frames) != scenario.frames:
            raise LedgerError(f"frames were lost: {self._ledger!r}")
        span_s = scenario.frames * scenario.period_ns / 1e9
        uplink_bytes = self._door.uplink_bytes if self._door else 0
        return RunResult(frames, uplink_bytes, self._ledger.counts(), span_s, engine.events)

    def _capture(self, seq: int) -> None:
        """A frame, and the next."""
        self._ledger.capture(seq)
        captured_ns = self._engine.now_ns
        self._engine.at(captured_ns + round(self._scenario.prepare_ms * 1e6), lambda: self._decide(seq, captured_ns))
        if seq + 1 < self._scenario.frames:
            self._engine.at((seq + 1) * self._scenario.period_ns, lambda: self._capture(seq + 1))

    def _decide(self, seq: int, captured_ns: int) -> None:
        now_ns = self._engine.now_ns
        deadline_ns = captured_ns + round(self._scenario.deadline_ms * 1e6)
        motion = self._draws.motion[seq]
        seen = Observation(
            now_ns=now_ns,
            budget_ms=(deadline_ns - now_ns) / 1e6,
            device_backlog_ms=self._device.backlog_ms(now_ns),
            frame_period_ms=self._scenario.period_ns / 1e6,
            motion=motion,
            track_age_ms=self._observer.age_ms(seq),
            track_carried=self._observer.carried,
        )
        decision = self._policy.decide(world=self._world, seen=seen)
        frame = Frame(seq, captured_ns, now_ns, deadline_ns, motion, decision)
        if decision.point.place is not Place.TRACK:
            frame.foreseen = self._observer.foresee(seq)
        self._engine.start(self._pipeline.run(frame))

    def _settle(self, frame: Frame, outcome: Outcome, fidelity: float) -> None:
        self._ledger.settle(frame.seq, outcome)
        latency_ms = (self._engine.now_ns - frame.captured_ns) / 1e6
        hit = outcome.answered and latency_ms <= self._scenario.deadline_ms
        if self._learner is not None:
            now_ns = self._engine.now_ns
            since_ms = (now_ns - frame.decided_ns) / 1e6
            self._learner.settled(frame.decision, latency_ms=since_ms, answered=outcome.inferred, now_ns=now_ns)
        self._settled[frame.seq] = Settled(outcome, frame.point.name, latency_ms, hit, fidelity)
