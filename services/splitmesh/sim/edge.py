"""Owns one simulated edge: it captures, decides and settles every frame, around the production policy code.

Uplink and pool may be other edges' too. An edge without a door never uses them.
"""

from __future__ import annotations

from collections.abc import Callable

from splitmesh.frames.ledger import Ledger
from splitmesh.frames.outcome import Outcome
from splitmesh.policy.base import Learner, Policy
from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Observation
from splitmesh.policy.point import Place
from splitmesh.policy.world import World
from splitmesh.sim.device import Device
from splitmesh.sim.door import Door
from splitmesh.sim.draws import Draws
from splitmesh.sim.engine import Engine
from splitmesh.sim.frame import Frame
from splitmesh.sim.observer import Observer
from splitmesh.sim.offers import Offers
from splitmesh.sim.path import Uplink
from splitmesh.sim.pipeline import Pipeline
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.result import Settled
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.workers import Pool

Settle = Callable[[int, Settled], None]
"""Called with a frame's number and what became of it, once per frame, in the order of settling."""


class Edge:
    """`number`: no other edge of `pool` has it. `policy`: one that has decided nothing yet. `phase_ns`: when its
    first frame is captured."""

    def __init__(
        self,
        engine: Engine,
        plan: SimPlan,
        policy: Policy,
        scenario: Scenario,
        draws: Draws,
        *,
        uplink: Uplink,
        pool: Pool,
        settle: Settle,
        number: int = 0,
        phase_ns: int = 0,
    ) -> None:
        self._engine = engine
        self._scenario = scenario
        self._policy = policy
        self._learner = policy if isinstance(policy, Learner) else None
        world = World(plan.points, track_kappa=plan.track_kappa)
        self._draws = draws
        self._settle_frame = settle
        self._phase_ns = phase_ns
        self._device = Device(engine, slowdown=scenario.edge_slowdown)
        kappa = plan.track_kappa if scenario.track_kappa is None else scenario.track_kappa
        self._observer = Observer(world, draws, period_ns=scenario.period_ns, kappa=kappa)
        self.door = None
        if not isinstance(policy, LocalOnly):
            self.door = Door(engine, world, uplink, pool, scenario, draws, number=number)
        self._offers = Offers(engine, self.door, world, plan, scenario, draws)
        self._pipeline = Pipeline(
            engine,
            plan,
            scenario,
            draws,
            device=self._device,
            offers=self._offers,
            observer=self._observer,
            settle=self._settle,
        )
        self.ledger = Ledger()
        self._deadline_ns = round(scenario.deadline_ms * 1e6)
        self._prepared_ns = 0
        """When the last frame that was captured is, or was, ready to be decided."""

    @property
    def device_ms(self) -> float:
        """For which its device has run models so far."""
        return self._device.used_ms

    def start(self) -> None:
        """Capture the first frame, when its time has come; the others follow."""
        if self._phase_ns:
            self._engine.at(self._phase_ns, lambda: self._capture(0))
        else:
            self._capture(0)

    def _capture(self, seq: int) -> None:
        """A frame, and the next."""
        self.ledger.capture(seq)
        captured_ns = self._engine.now_ns
        ready_ns = captured_ns + round(self._draws.prepare_ms[seq] * 1e6)
        self._prepared_ns = max(self._prepared_ns, ready_ns)
        self._engine.at(self._prepared_ns, lambda: self._decide(seq, captured_ns))
        if seq + 1 < self._scenario.frames:
            next_ns = self._phase_ns + (seq + 1) * self._scenario.period_ns
            self._engine.at(next_ns, lambda: self._capture(seq + 1))

    def _decide(self, seq: int, captured_ns: int) -> None:
        now_ns = self._engine.now_ns
        deadline_ns = captured_ns + self._deadline_ns
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
        world = self._offers.world
        world.on_motion(motion)
        decision = self._policy.decide(world=world, seen=seen)
        frame = Frame(seq, captured_ns, now_ns, deadline_ns, motion, decision)
        frame.truth = self._scenario.true_fidelity(world.planned(decision.point))
        if decision.point.place is not Place.TRACK:
            frame.foreseen = self._observer.foresee(seq)
        self._engine.start(self._pipeline.run(frame))

    def _settle(self, frame: Frame, outcome: Outcome, fidelity: float) -> None:
        self.ledger.settle(frame.seq, outcome)
        latency_ms = (self._engine.now_ns - frame.captured_ns) / 1e6
        hit = outcome.answered and latency_ms <= self._scenario.deadline_ms
        if self._learner is not None:
            now_ns = self._engine.now_ns
            since_ms = (now_ns - frame.decided_ns) / 1e6
            self._learner.settled(frame.decision, latency_ms=since_ms, answered=outcome.inferred, now_ns=now_ns)
        self._settle_frame(frame.seq, Settled(outcome, frame.point.name, latency_ms, hit, fidelity))
