"""Owns a decided frame until it is settled, on virtual time: step by step what `edge.pipeline` does.

TRACK  → settled at once from the tracker
LOCAL  → device                                  → else tracked at the deadline
SPLIT  → device (head) → codec → link ⟶ reply    → else, at the timer or a refusal: resume from the cut
FRAME  → codec → link ⟶ reply                    → on a refusal: locally if it still fits
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any

from splitmesh.frames.outcome import Outcome
from splitmesh.policy.audit import AuditSchedule
from splitmesh.policy.estimators import CENSORED
from splitmesh.policy.fallback import Fallback, choose_fallback
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.sim.device import Device, Job
from splitmesh.sim.draws import Draws
from splitmesh.sim.engine import Engine, Process, Signal, Wait, any_done
from splitmesh.sim.frame import Frame
from splitmesh.sim.observer import Observer
from splitmesh.sim.offers import Offers
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.request import Request, Said
from splitmesh.sim.scenario import Scenario, slowed

_TRACK_MARGIN_NS = 6_000_000
_GRACE_NS = 2_000_000_000

Settle = Callable[[Frame, Outcome, float], None]
"""Frame, how it ended, fidelity of its answer."""


class Pipeline:
    def __init__(
        self,
        engine: Engine,
        plan: SimPlan,
        scenario: Scenario,
        draws: Draws,
        *,
        device: Device,
        offers: Offers,
        observer: Observer,
        settle: Settle,
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._scenario = scenario
        self._draws = draws
        self._device = device
        self._offers = offers
        self._observer = observer
        self._settle = settle
        self._audits = AuditSchedule()

    def run(self, frame: Frame) -> Process:
        handover_ms = self._scenario.handover_ms.get(frame.point.place.value)
        if handover_ms:
            yield Wait(self._engine.now_ns + round(handover_ms * 1e6))
        match frame.point.place:
            case Place.TRACK:
                self._settle_tracked(frame)
            case Place.LOCAL:
                yield from self._local(frame)
            case Place.SPLIT:
                yield from self._split(frame)
            case Place.FRAME:
                yield from self._frame(frame)
        self._offers.maybe_probe(frame)
        self._maybe_audit(frame)

    # -- the places -----------------------------------------------------------------------------------------------

    def _local(self, frame: Frame) -> Process:
        point = frame.point if frame.point.place is Place.LOCAL else self._offers.world.by_name["local"]
        job = self._submit(frame, point, point.edge_ms)
        if (yield from self._first(frame, job.done)):
            self._ran(job, point.edge_ms)
            self._settle_inferred(frame, Outcome.LOCAL)
            if frame.point.place is Place.LOCAL and point.variant:
                frame.unaudited = frame.true_fidelity(Outcome.LOCAL)
            return
        self._settle_tracked(frame)
        now_ns = self._engine.now_ns
        late_ms = (now_ns - frame.decided_ns) / 1e6 * CENSORED
        self._offers.world.on_result(Place.LOCAL, late_ms, frame.decision.chosen.predicted_ms, now_ns)
        self._refresh_from(frame, job, point.edge_ms, Outcome.LOCAL)

    def _split(self, frame: Frame) -> Process:
        point = frame.point
        head = self._submit(frame, point, point.edge_ms)
        if not (yield from self._first(frame, head.done)):
            self._give_up_head(frame, head)
            self._settle_tracked(frame)
            return
        self._ran(head, point.edge_ms)
        request = yield from self._offers.offer(frame)
        if request is None:
            yield from self._resume(frame, None)
            return
        timer_ns = frame.decided_ns + int(self._offers.world.resume_at_ms(point, frame.budget_ms) * 1e6)
        yield Wait(timer_ns, (request.reply,))
        refused = request.reply.done
        if refused and self._settle_reply(frame, request, Outcome.SPLIT):
            return
        if self._fallback(frame, refused=refused) is Fallback.RESUME:
            yield from self._resume(frame, None if refused else request)
        else:
            yield from self._last_hope(frame, request, Outcome.SPLIT)

    def _frame(self, frame: Frame) -> Process:
        request = yield from self._offers.offer(frame)
        if request is None:
            yield from self._local_if_it_fits(frame)
        else:
            yield from self._last_hope(frame, request, Outcome.FRAME)

    def _last_hope(self, frame: Frame, request: Request, outcome: Outcome) -> Process:
        """Only the reply can still answer this frame, or the tracker at the deadline."""
        if not (yield from self._first(frame, request.reply)):
            self._give_up(frame, request)
            self._settle_tracked(frame)
        elif not self._settle_reply(frame, request, outcome):
            yield from self._local_if_it_fits(frame)

    def _local_if_it_fits(self, frame: Frame) -> Process:
        """The cloud said no: the whole model here if that can still make it, else what the tracker has."""
        now_ns = self._engine.now_ns
        local_ms = self._offers.world.edge_ms(self._offers.world.by_name["local"].edge_ms)
        done_ns = now_ns + (self._device.backlog_ms(now_ns) + local_ms) * 1e6
        if done_ns < frame.deadline_ns or not self._observer.can_track:
            yield from self._local(frame)
        else:
            self._settle_tracked(frame)

    # -- resume from the cut --------------------------------------------------------------------------------------

    def _fallback(self, frame: Frame, *, refused: bool) -> Fallback:
        now_ns = self._engine.now_ns
        return choose_fallback(
            frame.sent,
            self._offers.world,
            now_ns=now_ns,
            elapsed_ms=(now_ns - frame.decided_ns) / 1e6,
            budget_ms=frame.budget_ms,
            predicted_ms=frame.decision.chosen.predicted_ms,
            device_backlog_ms=self._device.backlog_ms(now_ns, urgent=True),
            a_track=self._observer.a_track(frame.seq, frame.motion),
            refused=refused,
        ).kind

    def _resume(self, frame: Frame, request: Request | None) -> Process:
        """Run the tail here; a reply that comes first still wins."""
        resume_ms = frame.point.resume_ms
        job = self._submit(frame, frame.point, resume_ms, urgent=True)
        if request is not None and (yield from self._first(frame, job.done, request.reply)) and not job.done.done:
            if self._settle_reply(frame, request, Outcome.SPLIT):
                job.cancel()
                return
            request = None
        if not (yield from self._first(frame, job.done)):
            if request is not None:
                self._give_up(frame, request)
            self._settle_tracked(frame)
            self._refresh_from(frame, job, resume_ms, Outcome.RESUMED)
            return
        self._ran(job, resume_ms)
        self._settle_inferred(frame, Outcome.RESUMED)
        if request is not None and not request.reply.done:
            self._offers.cancel(request)

    # -- the device -----------------------------------------------------------------------------------------------

    def _submit(self, frame: Frame, point: OperatingPoint, profiled_ms: float, *, urgent: bool = False) -> Job:
        """urgent: a resumed tail."""
        spread = self._plan.spread(point)
        z = spread.resume * self._draws.resume_z[frame.seq] if urgent else spread.edge * self._draws.edge_z[frame.seq]
        needs_ms = self._slowed(profiled_ms) * math.exp(z)
        expected_ms = self._offers.world.edge_ms(profiled_ms)
        return self._device.submit(expected_ms=expected_ms, needs_ms=needs_ms, urgent=urgent)

    def _slowed(self, profiled_ms: float) -> float:
        factor = self._scenario.edge_slowdown * slowed(self._scenario.edge_bursts, self._engine.now_ns)
        return factor * profiled_ms

    def _ran(self, job: Job, profiled_ms: float) -> None:
        self._offers.world.on_device(job.needs_ms, profiled_ms, self._engine.now_ns)
        self._audits.used(job.needs_ms)

    def _give_up_head(self, frame: Frame, head: Job) -> None:
        now_ns = self._engine.now_ns
        if head.started_ns >= 0:
            ran_ms = (now_ns - head.started_ns) / 1e6
            self._offers.world.on_device_given_up(ran_ms, frame.point.edge_ms, now_ns)
        head.cancel()

    # -- waiting and settling -------------------------------------------------------------------------------------

    def _first(self, frame: Frame, *signals: Signal[Any]) -> Generator[Wait, None, bool]:
        """True once one of `signals` is done; False when the tracker must step in for the deadline's sake."""
        yield Wait(frame.deadline_ns - _TRACK_MARGIN_NS, signals)
        if any_done(signals):
            return True
        if not self._observer.can_track:
            yield Wait(frame.deadline_ns + _GRACE_NS, signals)
        return any_done(signals)

    def _settle_reply(self, frame: Frame, request: Request, outcome: Outcome) -> bool:
        """Settle with a reply; False if it brought no answer."""
        reply = request.reply.value
        if reply is None or reply.said is not Said.ANSWER:
            return False
        self._settle_inferred(frame, outcome)
        frame.unaudited = frame.true_fidelity(outcome)
        return True

    def _settle_inferred(self, frame: Frame, outcome: Outcome) -> None:
        now_ns = self._engine.now_ns
        if outcome is Outcome.LOCAL and frame.point.place is Place.LOCAL:
            elapsed_ms = (now_ns - frame.decided_ns) / 1e6
            self._offers.world.on_result(Place.LOCAL, elapsed_ms, frame.decision.chosen.predicted_ms, now_ns)
        self._settle(frame, outcome, frame.true_fidelity(outcome))
        self._observer.observe(frame, outcome)

    def _settle_tracked(self, frame: Frame) -> None:
        if self._observer.can_track:
            self._settle(frame, Outcome.TRACKED, self._observer.tracked(frame.seq))
        else:
            self._settle(frame, Outcome.EXPIRED, 0.0)

    # -- answers that are held against the whole model's ----------------------------------------------------------

    def _maybe_audit(self, frame: Frame) -> None:
        """As `edge.pipeline` does. Single answers err as luck has it, exponentially about what is true of them."""
        now_ns, world = self._engine.now_ns, self._offers.world
        whole_ms = world.by_name["local"].edge_ms
        expected_ms = world.edge_ms(whole_ms)
        if frame.unaudited is None or not world.may_spare or not self._audits.due(now_ns, expected_ms):
            return
        if self._device.backlog_ms(now_ns) > 0:
            return
        error = (1 - frame.unaudited) * -math.log1p(-self._draws.pick[frame.seq])

        def over(ran_ms: float, whole: bool) -> None:
            self._audits.spent(ran_ms)
            self._offers.world.on_device_spare(ran_ms)
            if whole:
                self._offers.world.on_audit(frame.sent, max(0.0, 1 - error), frame.motion)

        self._device.spare(expected_ms=expected_ms, needs_ms=self._slowed(whole_ms), over=over)

    # -- answers that come too late still refresh the tracker -----------------------------------------------------

    def _refresh_from(self, frame: Frame, job: Job, profiled_ms: float, outcome: Outcome) -> None:
        def refresh() -> None:
            self._ran(job, profiled_ms)
            self._observer.observe(frame, outcome)

        job.done.hear(refresh)

    def _give_up(self, frame: Frame, request: Request) -> None:
        def refresh() -> None:
            reply = request.reply.value
            if reply is not None and reply.said is Said.ANSWER:
                self._observer.observe(frame, Outcome.SPLIT if frame.point.cut else Outcome.FRAME)

        request.reply.hear(refresh)
